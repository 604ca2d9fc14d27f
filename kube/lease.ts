/**
 * One leader among replicas, by a Lease (coordination.k8s.io/v1).
 *
 * Whoever holds it renews it; others take it over when it was not renewed for its duration, measured by their own clock
 * from the moment they saw the last renewal, so that clocks need not agree. A holder that cannot renew stops leading before
 * anybody else can begin: `deadlineMs` < `durationMs`. Every write states the version it read, so two never win at once.
 * On close the lease is given back and the next replica takes over at its next look.
 */
import { decode, integer, object, optional, string, withDefault } from '../core/decoder.ts';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { logger } from '../core/log.ts';
import { isAlreadyExists, isConflict } from './api-error.ts';
import type { CallOptions, KubeClient } from './client.ts';
import type { KubeObject } from './object.ts';
import { RESOURCES } from './resource.ts';
import { sleep } from './sleep.ts';

export interface LeaseTimes {
  /** How long an unrenewed lease is respected. */
  readonly durationMs: number;
  /** A leader that could not renew for this long stops leading. */
  readonly deadlineMs: number;
  /** Between looks, and between renewals. */
  readonly intervalMs: number;
}

export const LEASE_TIMES: LeaseTimes = { durationMs: 8_000, deadlineMs: 5_000, intervalMs: 1_500 };

export interface LeaseOptions {
  readonly namespace: string;
  readonly name: string;
  /** Unique among replicas and lives: the pod's name and something random. */
  readonly identity: string;
  readonly times?: LeaseTimes;
  /** Leading began. The signal ends it: everything begun must stop then. */
  onElected(signal: AbortSignal): void;
  /** Leading ended, by loss or by close. */
  onLost(): void;
}

interface Observation {
  readonly holder: string;
  readonly version: string;
  readonly durationMs: number;
  /** On our own clock. */
  readonly seenMs: number;
}

const log = logger('lease');

export class LeaseElection {
  readonly #client: KubeClient;
  readonly #options: LeaseOptions;
  readonly #times: LeaseTimes;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #observed: Observation | undefined;
  #leading: { readonly signal: AbortController; deadline: NodeJS.Timeout } | undefined;
  #failure = '';

  constructor(client: KubeClient, options: LeaseOptions) {
    this.#client = client;
    this.#options = options;
    this.#times = options.times ?? LEASE_TIMES;
    if (this.#times.deadlineMs >= this.#times.durationMs) {
      throw new AmbitError('USAGE', 'a lease must last longer than its deadline of renewal');
    }
  }

  get isLeader(): boolean {
    return this.#leading !== undefined;
  }

  /** Identity of the replica that leads as far as we know; empty when nobody does. */
  get leader(): string {
    return this.#observed?.holder ?? '';
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Stops leading and gives the lease back. */
  async close(): Promise<void> {
    this.#stop.abort('closed');
    await this.#running;
    const held = this.#leading !== undefined;
    this.#resign();
    if (held) await this.#release();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.#look();
        this.#failure = '';
      } catch (thrown) {
        if (signal.aborted) return;
        const { message } = toAmbitError(thrown, 'KUBERNETES_API');
        if (message !== this.#failure) log.warn({ reason: message }, 'the lease cannot be read or renewed');
        this.#failure = message;
      }
      // Replicas that start together must not look together.
      await sleep(this.#times.intervalMs * (0.8 + 0.4 * Math.random()), signal);
    }
  }

  async #look(): Promise<void> {
    const { namespace, name, identity } = this.#options;
    const begunMs = performance.now();
    const lease = await this.#client.find(RESOURCES.Lease, namespace, name, this.#limits);
    if (lease === undefined) return await this.#create(begunMs);
    const { holder, durationMs } = decodeSpec(lease, this.#times.durationMs);
    const version = lease.metadata.resourceVersion;
    const known = this.#observed;
    const seenMs = known !== undefined && known.version === version ? known.seenMs : performance.now();
    this.#observed = { holder, version, durationMs, seenMs };
    if (holder === identity) return await this.#write(lease, begunMs);
    if (this.#leading !== undefined) this.#resign();
    const expired = holder === '' || performance.now() - seenMs > durationMs;
    if (expired) await this.#write(lease, begunMs);
  }

  async #create(begunMs: number): Promise<void> {
    const { namespace, name } = this.#options;
    const body = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name, namespace },
      spec: this.#spec(0, undefined),
    };
    try {
      this.#held(await this.#client.create(RESOURCES.Lease, namespace, body, this.#limits), begunMs);
    } catch (thrown) {
      if (!isAlreadyExists(thrown)) throw thrown;
    }
  }

  /** Renews the lease or takes it over. A conflict means that another replica was faster: the next look tells. */
  async #write(lease: KubeObject, begunMs: number): Promise<void> {
    const { namespace, name, identity } = this.#options;
    const { holder, transitions, acquired } = decodeSpec(lease, this.#times.durationMs);
    const renewal = holder === identity;
    const spec = this.#spec(renewal ? transitions : transitions + 1, renewal ? acquired : undefined);
    try {
      const written = await this.#client.replace(RESOURCES.Lease, namespace, name, { ...lease, spec }, this.#limits);
      this.#held(written, begunMs);
    } catch (thrown) {
      if (!isConflict(thrown)) throw thrown;
    }
  }

  /** A call that takes longer than the deadline is of no use. */
  get #limits(): CallOptions {
    return { timeoutMs: this.#times.deadlineMs, signal: this.#stop.signal };
  }

  #spec(transitions: number, acquired: string | undefined): Record<string, unknown> {
    const now = new Date().toISOString().replace('Z', '000Z');
    return {
      holderIdentity: this.#options.identity,
      // The API counts whole seconds.
      leaseDurationSeconds: Math.ceil(this.#times.durationMs / 1000),
      acquireTime: acquired === undefined || acquired === '' ? now : acquired,
      renewTime: now,
      leaseTransitions: transitions,
    };
  }

  /** `begunMs`: before the write was sent, so that our deadline comes before that of anybody who saw it. */
  #held(lease: KubeObject, begunMs: number): void {
    const { identity } = this.#options;
    const { resourceVersion: version } = lease.metadata;
    this.#observed = { holder: identity, version, durationMs: this.#times.durationMs, seenMs: performance.now() };
    const leftMs = begunMs + this.#times.deadlineMs - performance.now();
    if (leftMs <= 0 || this.#stop.signal.aborted) return;
    const deadline = setTimeout(() => {
      log.warn({ lease: this.#options.name }, 'the lease could not be renewed in time: no longer leading');
      this.#resign();
    }, leftMs);
    if (this.#leading !== undefined) {
      clearTimeout(this.#leading.deadline);
      this.#leading.deadline = deadline;
      return;
    }
    const signal = new AbortController();
    this.#leading = { signal, deadline };
    log.info({ lease: this.#options.name, identity }, 'leading');
    this.#options.onElected(signal.signal);
  }

  #resign(): void {
    const leading = this.#leading;
    if (leading === undefined) return;
    this.#leading = undefined;
    clearTimeout(leading.deadline);
    leading.signal.abort('no longer leading');
    this.#options.onLost();
  }

  /** The next replica need not wait for the lease to expire. Failing to say so only costs that wait. */
  async #release(): Promise<void> {
    const { namespace, name } = this.#options;
    try {
      const patch = {
        metadata: { resourceVersion: this.#observed?.version },
        spec: { holderIdentity: '', leaseDurationSeconds: 1 },
      };
      await this.#client.mergePatch(RESOURCES.Lease, namespace, name, patch, { timeoutMs: this.#times.deadlineMs });
    } catch (thrown) {
      const { message } = toAmbitError(thrown, 'KUBERNETES_API');
      log.info({ reason: message }, 'the lease was not given back; it expires by itself');
    }
  }
}

const wireLease = object(
  {
    holderIdentity: withDefault(string, ''),
    leaseDurationSeconds: optional(integer(1, 86_400)),
    leaseTransitions: withDefault(integer(0, 2 ** 31 - 1), 0),
    acquireTime: withDefault(string, ''),
  },
  'ignore',
);

/** A lease that makes no sense is treated like one that is held until it expires. */
function decodeSpec(
  lease: KubeObject,
  defaultMs: number,
): { holder: string; durationMs: number; transitions: number; acquired: string } {
  const decoded = decode(wireLease, lease.spec);
  if (!decoded.ok) return { holder: 'unreadable', durationMs: defaultMs, transitions: 0, acquired: '' };
  const { holderIdentity, leaseDurationSeconds, leaseTransitions, acquireTime } = decoded.value;
  return {
    holder: holderIdentity,
    durationMs: leaseDurationSeconds === undefined ? defaultMs : leaseDurationSeconds * 1000,
    transitions: leaseTransitions,
    acquired: acquireTime,
  };
}
