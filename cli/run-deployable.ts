/**
 * Commands that start a deployable: its own entry file, in a process of its own that replaces this one where the system
 * allows it (execve), so that signals and exit status are the deployable's.
 */
import { resolve } from 'node:path';

/** `entry` is a path from the root of the package, or absolute. */
export function runDeployable(entry: string, args: readonly string[]): never {
  const file = resolve(import.meta.dirname, '..', entry);
  process.execve?.(process.execPath, [process.execPath, file, ...args], process.env);
  throw new Error('this system cannot replace a process');
}
