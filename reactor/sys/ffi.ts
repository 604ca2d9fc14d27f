/**
 * Binding of C functions of this very process: libc, and the OpenSSL and nghttp2 that Node.js carries and exports.
 *
 * `native` never throws: a symbol that is missing becomes a function that throws MISSING_SYMBOL when called and is listed in
 * `missingSymbols`, so that `probeRuntime` can name everything at once. Pointers travel as numbers (`uintptr_t`).
 * The foreign function interface of koffi is loaded per thread; nothing here is shared between threads.
 */
import koffi from 'koffi';
import { AmbitError } from '../../core/errors.ts';

const process_ = koffi.load(null);

/** Names that this runtime does not export, in the order of their binding. */
export const missingSymbols: string[] = [];

/** Binds the function of a C prototype, for example `int close(int)`. The caller's type must agree with the prototype. */
export function native<T extends (...values: never[]) => unknown>(prototype: string): T {
  const name = /([A-Za-z0-9_]+)\s*\(/.exec(prototype)?.[1] ?? prototype;
  try {
    process_.symbol(name);
  } catch {
    missingSymbols.push(name);
    const absent: unknown = () => {
      throw new AmbitError('MISSING_SYMBOL', `this Node.js does not export ${name}`);
    };
    return absent as T;
  }
  const bound: unknown = process_.func(prototype);
  return bound as T;
}
