/**
 * What every check works with: the sandbox, a probe in each pod, the access logs of both agents, the capture between the
 * nodes, the mesh files, and waiting with a deadline.
 */
import { rename, rm, writeFile } from 'node:fs/promises';
import { isRecord } from '../../core/decoder.ts';
import { AmbitError } from '../../core/errors.ts';
import { ADMIN_PORT, METRICS_PORT } from '../../core/ports.ts';
import type { AccessRecord } from '../access-record.ts';
import { requireCommand } from '../command.ts';
import { NODES, type NodeName } from '../layout.ts';
import type { Pod } from '../pod.ts';
import type { Sandbox } from '../sandbox.ts';
import { parseMetrics, type Sample } from './metrics-text.ts';
import type { Probe } from './probe.ts';

const MAX_RECORDS = 100_000;
const POLL_MS = 20;

export interface LoggedRecord {
  readonly node: NodeName;
  readonly record: AccessRecord;
}

export class CheckContext {
  readonly sandbox: Sandbox;
  readonly #probes: ReadonlyMap<string, Probe>;
  readonly #records: LoggedRecord[] = [];

  constructor(sandbox: Sandbox, probes: ReadonlyMap<string, Probe>) {
    this.sandbox = sandbox;
    this.#probes = probes;
    sandbox.onRecord((node, record) => {
      if (this.#records.length < MAX_RECORDS) this.#records.push({ node, record });
    });
  }

  /** Probe of `namespace/name`. */
  probe(key: string): Probe {
    return found(this.#probes.get(key), `a probe in ${key}`);
  }

  pod(key: string): Pod {
    return found(this.sandbox.kubelet.findPod(key), `pod ${key}`);
  }

  /** Address of a running pod. */
  ip(key: string): string {
    return found(this.pod(key).ip, `an address of ${key}`);
  }

  /** The first record since `sinceMs` that fits; waits up to three seconds for it. */
  async awaitRecord(
    what: string,
    sinceMs: number,
    fits: (node: NodeName, record: AccessRecord) => boolean,
  ): Promise<AccessRecord> {
    const find = (): LoggedRecord | undefined =>
      this.#records.find(({ node, record }) => record.timeMs >= sinceMs && fits(node, record));
    await eventually(`a record of ${what}`, 3000, async () => find() !== undefined);
    return found(find(), what).record;
  }

  /** Writes a file of the mesh in one step; returns the time just before. */
  async writeMeshFile(name: string, text: string): Promise<number> {
    const path = `${this.sandbox.meshDirectory}/${name}`;
    await writeFile(`${path}.new`, text);
    const at = Date.now();
    await rename(`${path}.new`, path);
    return at;
  }

  async removeMeshFile(name: string): Promise<number> {
    const at = Date.now();
    await rm(`${this.sandbox.meshDirectory}/${name}`, { force: true });
    return at;
  }

  /** A page of the agent's admin server, which listens on loopback in the node. */
  async admin(node: NodeName, path: string): Promise<unknown> {
    const url = `http://127.0.0.1:${ADMIN_PORT}${path}`;
    const text = await requireCommand(['curl', '-sS', '--max-time', '5', url], { netns: NODES[node].namespace });
    return JSON.parse(text);
  }

  async metrics(node: NodeName): Promise<Sample[]> {
    const response = await fetch(`http://${NODES[node].managementIp}:${METRICS_PORT}/metrics`);
    return parseMetrics(await response.text());
  }

  /** Serial number of the leaf an agent holds, by identity; only identities that are available. */
  async certificates(node: NodeName): Promise<ReadonlyMap<string, string>> {
    const dump = await this.admin(node, '/config_dump');
    const list: readonly unknown[] = isRecord(dump) && Array.isArray(dump.certificates) ? dump.certificates : [];
    const serials = new Map<string, string>();
    for (const entry of list.filter(isRecord)) {
      const chain: readonly unknown[] = Array.isArray(entry.certChain) ? entry.certChain : [];
      const [leaf] = chain;
      if (entry.state === 'Available' && isRecord(leaf)) serials.set(String(entry.identity), String(leaf.serialNumber));
    }
    return serials;
  }
}

/** Throws with `expectation` when it does not hold. */
export function expect(holds: boolean, expectation: string): void {
  if (!holds) throw new AmbitError('SANDBOX', expectation);
}

/** Resolves with the milliseconds it took until `holds`; throws when it does not within the deadline. */
export async function eventually(what: string, deadlineMs: number, holds: () => Promise<boolean>): Promise<number> {
  const startedAt = Date.now();
  for (;;) {
    if (await holds()) return Date.now() - startedAt;
    if (Date.now() - startedAt > deadlineMs) throw new AmbitError('SANDBOX', `not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Rejects when the promise takes longer. */
export function within<T>(what: string, deadlineMs: number, work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new AmbitError('SANDBOX', `not within ${deadlineMs} ms: ${what}`)),
    deadlineMs,
  );
  return Promise.race([work, late.promise]).finally(() => clearTimeout(timer));
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new AmbitError('SANDBOX', `missing: ${what}`);
  return value;
}
