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

/** Long enough for everything a start still does after it has reported success. */
const SETTLE_MS = 2000;
const IDLE_CHECK_MS = 5000;
/** Work in that time up to which the thread counts as idle: keepalives of a few hundred sessions. */
const IDLE_WORK_MS = 15;
/** Growth of the heap since the last collection here that makes another one worth it. */
const WORTHWHILE_BYTES = 8 << 20;

/** Collects all garbage of the calling thread and shrinks its heap. Blocks; call it where nobody waits. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('globalThis.gc');
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/** For the main thread, once the process has started: garbage and pages, after a short while. Does not keep the process alive. */
export function releaseStartMemory(): void {
  setTimeout(() => {
    collectGarbage();
    dropFilePages();
  }, SETTLE_MS).unref();
}

/** For a thread that runs a loop: collects now, and later whenever the loop is idle and the heap has grown. */
export function releaseWhenIdle(loop: EventLoop): void {
  collectGarbage();
  let keptBytes = getHeapStatistics().total_physical_size;
  let busyMs = loop.stats.busyMs;
  const check = (): void => {
    const workMs = loop.stats.busyMs - busyMs;
    if (workMs < IDLE_WORK_MS && getHeapStatistics().total_physical_size > keptBytes + WORTHWHILE_BYTES) {
      collectGarbage();
      keptBytes = getHeapStatistics().total_physical_size;
    }
    busyMs = loop.stats.busyMs;
    loop.setTimer(IDLE_CHECK_MS, check);
  };
  loop.setTimer(IDLE_CHECK_MS, check);
}
