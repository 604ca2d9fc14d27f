/**
 * Compiled code on disk, where NODE_COMPILE_CACHE names a folder. Node writes it at the end of a process, and only of one that
 * ends in order: a program that may be killed writes it once it runs, so that its next start is shorter.
 */
import { flushCompileCache } from 'node:module';

/** After the start, when nobody waits for it: writing takes some 20 ms. */
export const KEEP_CODE_AFTER_MS = 3_000;

/** Writes what the calling thread has compiled so far; nothing when it is on disk already, or nobody asked for it. */
export function keepCompiledCode(): void {
  flushCompileCache();
}

/** The same in a moment, for a thread that runs Node's event loop. */
export function keepCompiledCodeSoon(): void {
  setTimeout(keepCompiledCode, KEEP_CODE_AFTER_MS).unref();
}
