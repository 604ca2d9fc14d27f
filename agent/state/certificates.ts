/**
 * The certificates of every identity this agent speaks for: asked for once however many want them, renewed at half of
 * their life, kept while they are valid even if the CA is not there.
 *
 *   initializing -> available -> (renewal fails, certificate expires) -> unavailable -> available
 *
 * At most `concurrency` requests are under way; whoever waits for a connection goes before warming up, warming up before
 * renewal. A failure is retried with a back-off per identity; meanwhile those without a certificate get that failure at
 * once. `forget` ends an identity and whoever waits for it. Nothing here touches files or the network; the source does.
 */
import { Backoff } from '../../core/backoff.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { type Clock, SYSTEM_CLOCK } from './clock.ts';
import type { CertificateSource, IssuedCertificate } from './issued-certificate.ts';
import { renewalTimeMs } from './renewal.ts';

export type CertificatePriority = 'background' | 'warmUp' | 'realTime';

export interface CertificatesOptions {
  readonly source: CertificateSource;
  /** Requests under way at once. */
  readonly concurrency?: number;
  /** Identities held; further ones are refused. */
  readonly maxIdentities?: number;
  readonly firstBackoffMs?: number;
  readonly maxBackoffMs?: number;
  readonly clock?: Clock;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

/** Told about every change, synchronously. */
export interface CertificateListener {
  onIssued(certificate: IssuedCertificate): void;
  /** The identity has no valid certificate any more: it was forgotten, or expired unrenewed. */
  onGone(identity: SpiffeId): void;
}

export interface CertificateStatus {
  readonly identity: SpiffeId;
  readonly state:
    | { readonly kind: 'available' }
    | { readonly kind: 'initializing' }
    | { readonly kind: 'unavailable'; readonly reason: string };
  readonly certificate: IssuedCertificate | undefined;
  /** Requests that failed since the last that succeeded. */
  readonly failures: number;
  /** The last request that failed, also of an identity that has a certificate. */
  readonly lastFailure: { readonly atMs: number; readonly reason: string } | undefined;
}

interface Waiter {
  resolve(certificate: IssuedCertificate): void;
  reject(error: AmbitError): void;
}

interface Entry {
  readonly identity: SpiffeId;
  readonly backoff: Backoff;
  readonly waiters: Waiter[];
  certificate: IssuedCertificate | undefined;
  /** The last failure while there is no certificate. */
  error: AmbitError | undefined;
  failures: number;
  lastFailure: CertificateStatus['lastFailure'];
  /** Set while a request is under way. */
  request: AbortController | undefined;
  priority: CertificatePriority;
  dueMs: number;
}

const DEFAULTS = { concurrency: 8, maxIdentities: 10_000, firstBackoffMs: 1_000, maxBackoffMs: 150_000 };
/** Longest pause while there is no valid certificate at all: pods of the identity are cut off meanwhile. */
const MAX_PAUSE_WITHOUT_MS = 15_000;
const RANK: Readonly<Record<CertificatePriority, number>> = { background: 0, warmUp: 1, realTime: 2 };

const log = logger('certificates');

export class Certificates {
  readonly #options: Required<CertificatesOptions>;
  readonly #entries = new Map<SpiffeId, Entry>();
  readonly #listeners = new Set<CertificateListener>();
  #underWay = 0;
  #cancelTimer: () => void = () => {};
  #closed = false;

  constructor(options: CertificatesOptions) {
    this.#options = { clock: SYSTEM_CLOCK, random: Math.random, ...DEFAULTS, ...options };
  }

  /** The valid certificate of the identity, without asking for one. */
  find(identity: SpiffeId): IssuedCertificate | undefined {
    const certificate = this.#entries.get(identity)?.certificate;
    return certificate !== undefined && this.#isValid(certificate) ? certificate : undefined;
  }

  /**
   * The certificate of the identity, asked for when there is none. Rejects with the last failure when asking fails or
   * failed lately, with `NO_CERTIFICATE` when the identity is forgotten meanwhile.
   */
  get(identity: SpiffeId, priority: CertificatePriority = 'realTime'): Promise<IssuedCertificate> {
    if (this.#closed) return Promise.reject(new AmbitError('CLOSED', 'the certificates were closed'));
    const known = this.#entries.get(identity);
    if (known === undefined && this.#entries.size >= this.#options.maxIdentities)
      return Promise.reject(new AmbitError('NO_CERTIFICATE', `more than ${this.#options.maxIdentities} identities`));
    const entry = known ?? this.#add(identity, priority);
    if (entry.certificate !== undefined && this.#isValid(entry.certificate)) return Promise.resolve(entry.certificate);
    if (entry.error !== undefined) return Promise.reject(entry.error);
    const { promise, resolve, reject } = Promise.withResolvers<IssuedCertificate>();
    entry.waiters.push({ resolve, reject });
    if (RANK[priority] > RANK[entry.priority]) entry.priority = priority;
    if (entry.request === undefined) entry.dueMs = Math.min(entry.dueMs, this.#options.clock.nowMs());
    this.#schedule();
    return promise;
  }

  /** Drops the identity and its certificate; a request under way is abandoned. */
  forget(identity: SpiffeId): void {
    const entry = this.#entries.get(identity);
    if (entry === undefined) return;
    this.#entries.delete(identity);
    entry.request?.abort();
    this.#fail(entry, new AmbitError('NO_CERTIFICATE', 'the identity is no longer needed'));
    for (const listener of this.#listeners) listener.onGone(identity);
    this.#schedule();
  }

  /** Adds a listener; the returned function removes it. */
  subscribe(listener: CertificateListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Every identity, in the order of the text. */
  status(): CertificateStatus[] {
    const list = [...this.#entries.values()].map((entry): CertificateStatus => {
      const certificate = this.find(entry.identity);
      const state =
        certificate !== undefined
          ? ({ kind: 'available' } as const)
          : entry.error !== undefined
            ? ({ kind: 'unavailable', reason: entry.error.message } as const)
            : ({ kind: 'initializing' } as const);
      const { identity, failures, lastFailure } = entry;
      return { identity, state, certificate, failures, lastFailure };
    });
    return list.sort((a, b) => (a.identity < b.identity ? -1 : 1));
  }

  /** Abandons everything under way and rejects whoever waits. */
  close(): void {
    this.#closed = true;
    this.#cancelTimer();
    for (const entry of this.#entries.values()) {
      entry.request?.abort();
      this.#fail(entry, new AmbitError('CLOSED', 'the certificates were closed'));
    }
    this.#entries.clear();
    this.#listeners.clear();
  }

  #add(identity: SpiffeId, priority: CertificatePriority): Entry {
    const { clock, firstBackoffMs, maxBackoffMs, random } = this.#options;
    const entry: Entry = {
      identity,
      backoff: new Backoff({ firstMs: firstBackoffMs, maxMs: maxBackoffMs, random }),
      waiters: [],
      certificate: undefined,
      error: undefined,
      failures: 0,
      lastFailure: undefined,
      request: undefined,
      priority,
      dueMs: clock.nowMs(),
    };
    this.#entries.set(identity, entry);
    return entry;
  }

  /** Starts what is due and may start, and wakes up for what comes next. */
  #schedule(): void {
    this.#cancelTimer();
    if (this.#closed) return;
    const nowMs = this.#options.clock.nowMs();
    while (this.#underWay < this.#options.concurrency) {
      const next = this.#nextDue(nowMs);
      if (next === undefined) break;
      void this.#request(next);
    }
    if (this.#underWay >= this.#options.concurrency) return;
    let earliestMs = Number.POSITIVE_INFINITY;
    for (const entry of this.#entries.values())
      if (entry.request === undefined) earliestMs = Math.min(earliestMs, entry.dueMs);
    if (earliestMs < Number.POSITIVE_INFINITY)
      this.#cancelTimer = this.#options.clock.after(earliestMs - nowMs, () => this.#schedule());
  }

  #nextDue(nowMs: number): Entry | undefined {
    let next: Entry | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.request !== undefined || entry.dueMs > nowMs) continue;
      const ahead = next === undefined ? 1 : RANK[entry.priority] - RANK[next.priority];
      if (ahead > 0 || (ahead === 0 && next !== undefined && entry.dueMs < next.dueMs)) next = entry;
    }
    return next;
  }

  async #request(entry: Entry): Promise<void> {
    const request = new AbortController();
    entry.request = request;
    this.#underWay++;
    let outcome: IssuedCertificate | AmbitError;
    try {
      outcome = await this.#options.source.fetch(entry.identity, request.signal);
    } catch (thrown) {
      outcome = toAmbitError(thrown, 'CA');
    }
    this.#underWay--;
    entry.request = undefined;
    if (this.#entries.get(entry.identity) === entry) {
      if (outcome instanceof AmbitError) this.#refused(entry, outcome);
      else if (!this.#isValid(outcome))
        this.#refused(entry, new AmbitError('CA', 'the certificate is already expired'));
      else this.#issued(entry, outcome);
    }
    this.#schedule();
  }

  #issued(entry: Entry, certificate: IssuedCertificate): void {
    entry.certificate = certificate;
    entry.error = undefined;
    entry.failures = 0;
    entry.backoff.reset();
    entry.priority = 'background';
    entry.dueMs = renewalTimeMs(certificate, this.#options.clock.nowMs(), this.#options.random);
    for (const waiter of entry.waiters.splice(0)) waiter.resolve(certificate);
    for (const listener of this.#listeners) listener.onIssued(certificate);
  }

  #refused(entry: Entry, error: AmbitError): void {
    const nowMs = this.#options.clock.nowMs();
    entry.failures++;
    entry.lastFailure = { atMs: nowMs, reason: error.message };
    const { certificate } = entry;
    const kept = certificate !== undefined && this.#isValid(certificate);
    const pauseMs = entry.backoff.nextDelayMs();
    const delayMs = kept ? pauseMs : Math.min(pauseMs, MAX_PAUSE_WITHOUT_MS);
    log.warn(
      { identity: entry.identity, error: error.message, delayMs: Math.round(delayMs), kept },
      'no certificate issued',
    );
    entry.priority = 'background';
    if (kept) {
      entry.dueMs = Math.min(nowMs + delayMs, certificate.notAfterMs);
      for (const waiter of entry.waiters.splice(0)) waiter.resolve(certificate);
      return;
    }
    entry.dueMs = nowMs + delayMs;
    entry.error = error;
    entry.certificate = undefined;
    this.#fail(entry, error);
    if (certificate !== undefined) for (const listener of this.#listeners) listener.onGone(entry.identity);
  }

  #fail(entry: Entry, error: AmbitError): void {
    for (const waiter of entry.waiters.splice(0)) waiter.reject(error);
  }

  #isValid(certificate: IssuedCertificate): boolean {
    return certificate.notAfterMs > this.#options.clock.nowMs();
  }
}
