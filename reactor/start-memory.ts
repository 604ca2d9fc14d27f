/**
 * Gives back what only the start of a process needed: garbage of loading and compiling (a young generation that grew for
 * it), and pages of the executable. An idle agent is a third smaller for it; the collection takes some 20 ms, once, and pages
 * that are needed again cost one soft fault each.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { dropFilePages } from './sys/executable-pages.ts';

/** Long enough for everything a start still does after it has reported success. */
const SETTLE_MS = 2000;

/** Collects the garbage of the calling thread and shrinks its heap. Blocks; call it where nobody waits. */
export function collectStartGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('globalThis.gc');
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/** For the main thread, once the process has started: both, after a short while. Does not keep the process alive. */
export function releaseStartMemory(): void {
  setTimeout(() => {
    collectStartGarbage();
    dropFilePages();
  }, SETTLE_MS).unref();
}
