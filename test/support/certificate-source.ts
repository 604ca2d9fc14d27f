/** A source of certificates that answers when the test says so, and remembers in which order it was asked. */
import type { CertificateSource, IssuedCertificate } from '../../agent/state/issued-certificate.ts';
import { AmbitError } from '../../core/errors.ts';
import { formatSpiffeId, type SpiffeId } from '../../core/spiffe.ts';
import { type FakeClock, settle } from './fake-clock.ts';

interface Request {
  readonly identity: SpiffeId;
  readonly signal: AbortSignal;
  readonly answer: (outcome: IssuedCertificate | AmbitError) => void;
}

export class ScriptedSource implements CertificateSource {
  /** What happens to a request that arrives: `hold` leaves it to `issue` and `refuse`. */
  mode: 'issue' | 'refuse' | 'hold' = 'issue';
  lifetimeMs = 3_600_000;
  /** False: a request goes on although nobody wants its answer any more. */
  heedsAbort = true;
  /** Every request ever made, by the name of the service account. */
  readonly asked: string[] = [];
  readonly #clock: FakeClock;
  #held: Request[] = [];
  #mostAtOnce = 0;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  get held(): string[] {
    return this.#held.map(({ identity }) => nameOf(identity));
  }

  get mostAtOnce(): number {
    return this.#mostAtOnce;
  }

  async fetch(identity: SpiffeId, signal: AbortSignal): Promise<IssuedCertificate> {
    this.asked.push(nameOf(identity));
    const { promise, resolve } = Promise.withResolvers<IssuedCertificate | AmbitError>();
    const request: Request = { identity, signal, answer: resolve };
    this.#held.push(request);
    this.#mostAtOnce = Math.max(this.#mostAtOnce, this.#held.length);
    signal.addEventListener('abort', () => {
      if (this.heedsAbort) this.#answer(request, new AmbitError('CA', 'aborted'));
    });
    if (this.mode === 'issue') await settle().then(() => this.#answer(request, this.#certificate(identity)));
    else if (this.mode === 'refuse') this.#answer(request, new AmbitError('CA', 'refused by the test'));
    const outcome = await promise;
    if (outcome instanceof AmbitError) throw outcome;
    return outcome;
  }

  /** Answers the oldest held request. */
  async issue(): Promise<void> {
    const [request] = this.#held;
    if (request !== undefined) this.#answer(request, this.#certificate(request.identity));
    await settle();
  }

  async refuse(): Promise<void> {
    const [request] = this.#held;
    if (request !== undefined) this.#answer(request, new AmbitError('CA', 'refused by the test'));
    await settle();
  }

  #answer(request: Request, outcome: IssuedCertificate | AmbitError): void {
    this.#held = this.#held.filter((other) => other !== request);
    request.answer(outcome);
  }

  #certificate(identity: SpiffeId): IssuedCertificate {
    const notBeforeMs = this.#clock.nowMs();
    return {
      identity,
      certificateChainPem: '',
      privateKeyPem: '',
      rootsPem: '',
      notBeforeMs,
      notAfterMs: notBeforeMs + this.lifetimeMs,
    };
  }
}

export function identityOf(serviceAccount: string): SpiffeId {
  return formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount });
}

function nameOf(identity: SpiffeId): string {
  return identity.slice(identity.lastIndexOf('/') + 1);
}
