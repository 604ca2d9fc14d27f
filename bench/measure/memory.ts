/** Resident memory of the proxies: as started, after load, and with idle connections. Runs once per subject. */
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { endChild } from '../namespaces.ts';
import { residentBytes } from '../process-usage.ts';
import { HTTP_PORT } from '../servers.ts';
import type { Target } from './measurement.ts';

const CLIENT = join(import.meta.dirname, '..', 'load', 'idle-connections.ts');
/** Time for memory to be given back before it is read: agents look every five seconds whether they are idle. */
const SETTLE_MS = 12_000;

export interface MemoryResult {
  readonly proxy: string;
  readonly connections: number;
  readonly residentBytes: number;
}

export function memoryOf({ running }: Target): number[] {
  return running.proxies.map(({ pid }) => residentBytes(pid));
}

/** Memory of each proxy with each of the counts of idle connections, in the given order. */
export async function memoryWithIdle({ world, running }: Target, counts: readonly number[]): Promise<MemoryResult[]> {
  const { ip, port } = running.address(HTTP_PORT);
  const client = world.client.talk(process.execPath, [CLIENT, ip, String(port)]);
  const failed = once(client, 'exit').then(() => Promise.reject(new Error('idle connections could not be opened')));
  failed.catch(() => {});
  if (client.stdin === null || client.stdout === null) throw new Error('no pipe to the client');
  const answers = createInterface(client.stdout);
  const results: MemoryResult[] = [];
  try {
    for (const connections of counts) {
      const reached = once(answers, 'line');
      client.stdin.write(`${connections}\n`);
      await Promise.race([reached, failed]);
      await delay(SETTLE_MS);
      for (const { name, pid } of running.proxies) {
        results.push({ proxy: name, connections, residentBytes: residentBytes(pid) });
      }
    }
  } finally {
    await endChild(client);
  }
  return results;
}
