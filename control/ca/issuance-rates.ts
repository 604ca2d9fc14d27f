/**
 * How many certificates may be asked for: by one node (or by one account without a node), by one node for one identity,
 * and by all together, so that neither a loop in an agent nor a stolen token can keep the CA from the others.
 */
import { AmbitError } from '../../core/errors.ts';
import { RateLimit, type RateLimitOptions } from '../rate-limit.ts';

export interface IssuanceRateOptions {
  /** Of one caller. */
  readonly certificateBurst: number;
  readonly certificatesPerSecond: number;
}

/** See docs/LIMITS.md. */
export const ISSUANCE_RATES = {
  maxCallers: 10_000,
  /** One caller for one identity: every pod of a node shares a certificate, so that few are ever needed. */
  identity: { burst: 30, perSecond: 1, maxKeys: 50_000 },
  /** All callers together: what one processor signs beside its other work. */
  total: { burst: 2000, perSecond: 300, maxKeys: 1 },
} as const satisfies { maxCallers: number; identity: RateLimitOptions; total: RateLimitOptions };

export class IssuanceRates {
  readonly #callers: RateLimit;
  readonly #identities: RateLimit;
  readonly #total: RateLimit;

  /** `now`: milliseconds since the epoch. */
  constructor(options: IssuanceRateOptions, now: () => number = Date.now) {
    const { certificateBurst, certificatesPerSecond } = options;
    const perCaller = { burst: certificateBurst, perSecond: certificatesPerSecond, maxKeys: ISSUANCE_RATES.maxCallers };
    this.#callers = new RateLimit(perCaller, now);
    this.#identities = new RateLimit(ISSUANCE_RATES.identity, now);
    this.#total = new RateLimit(ISSUANCE_RATES.total, now);
  }

  /** Counts a request. Throws RATE_LIMITED. */
  countRequest(caller: string): void {
    if (!this.#callers.take(caller)) throw new AmbitError('RATE_LIMITED', 'the caller asks too often');
  }

  /** Counts a certificate that is about to be made for an identity the caller may have. Throws RATE_LIMITED. */
  countIssuance(caller: string, identity: string): void {
    if (!this.#identities.take(`${caller} ${identity}`)) {
      throw new AmbitError('RATE_LIMITED', 'the caller asks too often for this identity');
    }
    if (!this.#total.take('')) throw new AmbitError('RATE_LIMITED', 'all callers together ask too often');
  }
}
