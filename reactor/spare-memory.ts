/**
 * Gives back memory that nobody needs: what the start of a process left (garbage of loading and compiling, a young
 * generation that grew for it, pages of the executable), and what a burst of connections left in a worker that is idle
 * again. V8 would keep it until its heap grows further. A collection takes some 20 ms for a small heap; pages that are needed
 * again cost one soft fault each.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { EventLoop } from './loop.ts';
import { dropFilePages } from './sys/executable-pages.ts';
import { sys } from './sys/libc.ts';

const IDLE_CHECK_MS = 5000;
/** Work in that time up to which the thread counts as idle: keepalives of a few hundred sessions. */
const IDLE_WORK_MS = 15;
/** Before it collects, an idle thread looks once more whether work has begun meanwhile: nobody shall wait for a collection. */
const QUIET_CHECK_MS = 250;
const QUIET_WORK_MS = 2;
/** A thread that has worked this long has compiled code worth keeping. */
const WARM_WORK_MS = 300;
/** Growth of the heap since the last collection here that makes another one worth it. */
const WORTHWHILE_BYTES = 4 << 20;

/**
 * Collects all garbage of the calling thread and shrinks its heap and the C library's. Blocks; call it where nobody waits.
 * `keepCode`: some megabytes more stay, and with them the compiled code, without which the next second of work is slow.
 */
export function collectGarbage(keepCode: boolean): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('globalThis.gc');
  const flavor = keepCode ? 'regular' : 'last-resort';
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor });
  sys.malloc_trim(0);
}

/** For the main thread: collects when it is idle after its start, then pages as well, and again whenever it is idle and has grown. */
export function releaseMainWhenIdle(): void {
  const memory = new IdleMemory(() => performance.eventLoopUtilization().active, Number.POSITIVE_INFINITY);
  let started = false;
  const look = (): void => {
    if (!memory.isWorthwhile() || !memory.collectIfQuiet() || started) return;
    dropFilePages();
    started = true;
  };
  setInterval(look, IDLE_CHECK_MS).unref();
}

/** The same for a thread that runs a loop; file pages belong to the process. */
export function releaseWhenIdle(loop: EventLoop): void {
  const memory = new IdleMemory(() => loop.stats.busyMs, WARM_WORK_MS);
  const collect = (): void => {
    memory.collectIfQuiet();
  };
  const look = (): void => {
    if (memory.isWorthwhile()) loop.setTimer(QUIET_CHECK_MS, collect);
    loop.setTimer(IDLE_CHECK_MS, look);
  };
  loop.setTimer(IDLE_CHECK_MS, look);
}

class IdleMemory {
  readonly #busyMs: () => number;
  readonly #warmMs: number;
  #seenMs: number;
  /** Nothing yet: the start is worth a collection. */
  #keptBytes = 0;

  /** From `warmMs` of work on, compiled code is kept. */
  constructor(busyMs: () => number, warmMs: number) {
    this.#busyMs = busyMs;
    this.#warmMs = warmMs;
    this.#seenMs = busyMs();
  }

  /** The thread did next to nothing since the last look and its heap has grown. */
  isWorthwhile(): boolean {
    const busyMs = this.#busyMs();
    const workMs = busyMs - this.#seenMs;
    this.#seenMs = busyMs;
    return workMs < IDLE_WORK_MS && getHeapStatistics().total_physical_size > this.#keptBytes + WORTHWHILE_BYTES;
  }

  /** Collects, unless work has begun since the last look. */
  collectIfQuiet(): boolean {
    const busyMs = this.#busyMs();
    if (busyMs - this.#seenMs >= QUIET_WORK_MS) return false;
    collectGarbage(busyMs >= this.#warmMs);
    this.#keptBytes = getHeapStatistics().total_physical_size;
    return true;
  }
}
