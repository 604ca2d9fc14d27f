/**
 * Notices pods that listen on ports of the mesh themselves: a process of the same user may join a port with SO_REUSEPORT
 * at any time, and would then get connections that were captured. Logged once per pod, shown on the admin pages.
 */
import { logger } from '../../core/log.ts';
import type { PodEntry } from './pod-entry.ts';
import { findForeignListeners, ownSocketInodes } from './pod-netns.ts';

const log = logger('enrol');

export class ForeignListeners {
  /** What the last look found, by pod. */
  #findings = new Map<string, string>();

  find(key: string): string | undefined {
    return this.#findings.get(key);
  }

  look(entries: Iterable<[string, PodEntry]>): void {
    const own = ownSocketInodes();
    const findings = new Map<string, string>();
    for (const [key, entry] of entries) {
      if (entry.state !== 'enrolled') continue;
      const ports = findForeignListeners(entry.captured.netns, own);
      if (ports.length === 0) continue;
      findings.set(key, `a process of the pod listens on port ${ports.join(' and ')}`);
      if (!this.#findings.has(key)) log.warn({ pod: key, ports }, 'a process of a pod listens on ports of the mesh');
    }
    this.#findings = findings;
  }
}
