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
/** Growth of the heap since the last collection here that makes another one worth it. */
const WORTHWHILE_BYTES = 4 << 20;

/** Collects all garbage of the calling thread and shrinks its heap and the C library's. Blocks; call it where nobody waits. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('globalThis.gc');
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  sys.malloc_trim(0);
}

/** For the main thread: collects when it is idle after its start, then pages as well, and again whenever it is idle and has grown. */
export function releaseMainWhenIdle(): void {
  const memory = new IdleMemory(() => performance.eventLoopUtilization().active);
  let started = false;
  const look = (): void => {
    if (memory.look() && !started) {
      dropFilePages();
      started = true;
    }
  };
  setInterval(look, IDLE_CHECK_MS).unref();
}

/** The same for a thread that runs a loop; file pages belong to the process. */
export function releaseWhenIdle(loop: EventLoop): void {
  const memory = new IdleMemory(() => loop.stats.busyMs);
  const look = (): void => {
    memory.look();
    loop.setTimer(IDLE_CHECK_MS, look);
  };
  loop.setTimer(IDLE_CHECK_MS, look);
}

class IdleMemory {
  readonly #busyMs: () => number;
  #seenMs: number;
  /** Nothing yet: the start is worth a collection. */
  #keptBytes = 0;

  constructor(busyMs: () => number) {
    this.#busyMs = busyMs;
    this.#seenMs = busyMs();
  }

  /** Collects when the thread did next to nothing since the last look and its heap has grown. */
  look(): boolean {
    const busyMs = this.#busyMs();
    const workMs = busyMs - this.#seenMs;
    this.#seenMs = busyMs;
    if (workMs >= IDLE_WORK_MS) return false;
    if (getHeapStatistics().total_physical_size <= this.#keptBytes + WORTHWHILE_BYTES) return false;
    collectGarbage();
    this.#keptBytes = getHeapStatistics().total_physical_size;
    return true;
  }
}
