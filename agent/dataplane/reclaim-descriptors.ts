/**
 * Closes what a dead worker left open. Descriptors belong to the process, not to the thread: without this its listeners
 * would go on taking connections that nobody accepts. The worker's epoll set names everything it watched, and it is the
 * one that watches the worker's wake-up (proc(5), /proc/pid/fdinfo of an epoll descriptor).
 */
import { closeSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Returns how many descriptors were closed. `wakeUpFd` must belong to a worker that has ended. */
export function reclaimDescriptors(wakeUpFd: number): number {
  for (const name of readdirSync('/proc/self/fd')) {
    const watched = watchedBy(name);
    if (!watched.includes(wakeUpFd)) continue;
    const all = [...watched, Number(name)];
    for (const fd of all) close(fd);
    return all.length;
  }
  return 0;
}

/** Descriptors in the epoll set behind `name`; empty for anything else. */
function watchedBy(name: string): number[] {
  try {
    if (!readlinkSync(`/proc/self/fd/${name}`).includes('[eventpoll]')) return [];
    const info = readFileSync(`/proc/self/fdinfo/${name}`, 'latin1');
    return Array.from(info.matchAll(/^tfd:\s*([0-9]+)/gm), (match) => Number(match[1]));
  } catch {
    // Closed while we looked.
    return [];
  }
}

function close(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // Not open any more.
  }
}
