/**
 * The public keys with which the API server signs tokens of service accounts (`/openid/v1/jwks`), so that a forged token
 * is told without asking the API server about it. A signature that is right is not enough: revoked tokens and deleted
 * pods are known to the API server alone.
 */
import { compactVerify, createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { decode, list, object, string, withDefault } from '../../core/decoder.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { KubeClient } from '../../kube/client.ts';

/** `unknown`: the keys cannot be had, or none of them is the one that the token names. */
export type SignatureVerdict = 'signed' | 'forged' | 'unknown';

const JWKS_PATH = '/openid/v1/jwks';
const JWKS_TYPE = 'application/jwk-set+json';
/** The keys are fetched again for a token of an unknown key, but not more often than this. */
const REFRESH_PAUSE_MS = 10_000;
const MAX_KEYS = 100;
const TIMEOUT_MS = 5_000;
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512'];

const keySet = object(
  {
    keys: list(
      object(
        {
          kty: string,
          kid: withDefault(string, ''),
          alg: withDefault(string, ''),
          n: withDefault(string, ''),
          e: withDefault(string, ''),
          crv: withDefault(string, ''),
          x: withDefault(string, ''),
          y: withDefault(string, ''),
        },
        'ignore',
      ),
    ),
  },
  'ignore',
);

const log = logger('authentication');

export class TokenKeys {
  readonly #client: Pick<KubeClient, 'request'>;
  readonly #now: () => number;
  #keys: JWTVerifyGetKey | undefined;
  #ids: ReadonlySet<string> = new Set();
  #askedMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;
  /** The failure that was told last. */
  #told = '';

  /** `now`: milliseconds since the epoch. */
  constructor(client: Pick<KubeClient, 'request'>, now: () => number = Date.now) {
    this.#client = client;
    this.#now = now;
  }

  /** Never rejects. `keyId`: the key that the token names. A token of an unknown key counts as forged once keys are known. */
  async verify(token: string, keyId: string): Promise<SignatureVerdict> {
    if (!this.#ids.has(keyId)) await this.#refresh();
    if (this.#keys === undefined) return 'unknown';
    try {
      await compactVerify(token, this.#keys, { algorithms: ALGORITHMS });
      return 'signed';
    } catch (thrown) {
      // Keys without an id, or a server that rotates: then the API server has the last word.
      if (thrown instanceof errors.JWKSMultipleMatchingKeys) return 'unknown';
      return 'forged';
    }
  }

  async #refresh(): Promise<void> {
    // A clock that was set back must not make them wait for as long as that.
    if (Math.abs(this.#now() - this.#askedMs) >= REFRESH_PAUSE_MS) {
      this.#askedMs = this.#now();
      this.#asking = this.#fetch();
    }
    await this.#asking;
  }

  async #fetch(): Promise<void> {
    try {
      const call = { method: 'GET', path: JWKS_PATH, accept: JWKS_TYPE, timeoutMs: TIMEOUT_MS } as const;
      const body = await this.#client.request(call);
      const decoded = decode(keySet, body);
      const count = decoded.ok ? decoded.value.keys.length : 0;
      // Without a key everything would count as forged.
      if (!decoded.ok || count === 0 || count > MAX_KEYS) {
        throw new AmbitError('KUBERNETES_API', 'the answer is not a set of keys');
      }
      const keys = decoded.value.keys.map((key) => Object.fromEntries(Object.entries(key).filter(([, v]) => v !== '')));
      const set: JSONWebKeySet = { keys: keys.map((key) => ({ ...key, kty: key.kty ?? '' })) };
      this.#keys = createLocalJWKSet(set);
      this.#told = '';
      this.#ids = new Set(decoded.value.keys.map(({ kid }) => kid));
    } catch (thrown) {
      const reason = toAmbitError(thrown, 'AUTHENTICATION').message;
      if (reason === this.#told) return;
      this.#told = reason;
      log.warn({ reason }, 'the keys of tokens could not be read; every token goes to the API server');
    }
  }
}
