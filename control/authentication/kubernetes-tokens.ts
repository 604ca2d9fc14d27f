/**
 * Tokens of Kubernetes service accounts, reviewed by the API server.
 *
 *   what it says of itself ──> remembered? ──> its signature ──> limits ──> TokenReview ──> remembered
 *
 * Whoever forges tokens must not be able to make us flood the API server, or to keep others from being reviewed: most
 * forgeries end at the token's own words or at its signature (`token-keys.ts`); what cannot be told apart is limited per
 * peer, and all of it in total.
 * A verdict is remembered under a hash of the token, never longer than the token lives; the same token is asked about
 * once, however many calls wait for it. While the API server does not answer, an agent whose token it accepted lately is
 * believed on: otherwise an agent that crashes meanwhile would cut off every pod of its node.
 */
import { createHash } from 'node:crypto';
import type { Metadata } from '@grpc/grpc-js';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { KubernetesApiError } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { type Authenticator, bearerToken, type Caller, type PeerConnection } from '../authentication.ts';
import { RateLimit } from '../rate-limit.ts';
import { findObviousFault, readClaims, type TokenClaims } from './token-claims.ts';
import type { TokenKeys } from './token-keys.ts';
import { callerOfReview, tokenReview } from './token-review.ts';

/** See docs/LIMITS.md. */
export const REVIEW_LIMITS = {
  /** Verdicts remembered; beyond that the one that was used longest ago is forgotten. */
  maxRemembered: 20_000,
  acceptedMs: 60_000,
  refusedMs: 5_000,
  /** Of agents, while the API server does not answer. */
  believedMs: 3_600_000,
  /** Reviews under way at once. */
  maxUnderWay: 100,
  timeoutMs: 5_000,
  peer: { burst: 50, perSecond: 5, maxKeys: 10_000 },
  total: { burst: 1000, perSecond: 100, maxKeys: 1 },
} as const;

/** What the API server said last, and when. */
interface Acceptance {
  readonly caller: Caller;
  readonly atMs: number;
}

interface Verdict {
  readonly outcome: Promise<Acceptance>;
  /** Before this review. */
  readonly former: Acceptance | undefined;
  /** Infinity while the review is under way. */
  readonly untilMs: number;
}

export interface KubernetesTokenOptions {
  /** A token for any of them is accepted. */
  readonly audiences: readonly string[];
  /** Accounts of agents, `<namespace>/<service account>`: nobody else speaks for the node of its pod. */
  readonly nodeAccounts: ReadonlySet<string>;
  /** The node of a pod, for API servers that do not name it in the review; undefined when the pod is not known. */
  readonly nodeOfPod?: (namespace: string, name: string, uid: string) => string | undefined;
  /** Undefined: every token that is not obviously wrong goes to the API server. */
  readonly keys?: TokenKeys | undefined;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

export class KubernetesTokenAuthenticator implements Authenticator {
  readonly #client: Pick<KubeClient, 'review'>;
  readonly #options: KubernetesTokenOptions;
  readonly #now: () => number;
  /** In the order of last use. */
  readonly #verdicts = new Map<string, Verdict>();
  readonly #peers: RateLimit;
  readonly #total: RateLimit;
  #underWay = 0;
  #reviews = 0;

  constructor(client: Pick<KubeClient, 'review'>, options: KubernetesTokenOptions) {
    this.#client = client;
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#peers = new RateLimit(REVIEW_LIMITS.peer, this.#now);
    this.#total = new RateLimit(REVIEW_LIMITS.total, this.#now);
  }

  /** Questions that went to the API server so far. */
  get reviews(): number {
    return this.#reviews;
  }

  /** Verdicts in memory. */
  get remembered(): number {
    return this.#verdicts.size;
  }

  /** Rejects with AUTHENTICATION; with RATE_LIMITED or KUBERNETES_API where the caller may be right and try again. */
  async authenticate(metadata: Metadata, connection?: PeerConnection): Promise<Caller> {
    const token = bearerToken(metadata);
    const claims = readClaims(token);
    const fault = findObviousFault(claims, this.#options.audiences, this.#now());
    if (fault !== undefined) throw new AmbitError('AUTHENTICATION', `the token is ${fault}`);
    const { caller } = await this.#verdict(token, claims, connection?.peer ?? '');
    // Tokens of all pods name a node. A workload must not see what agents see, nor use up what is theirs.
    if (!this.#isAgent(caller)) return { ...caller, node: undefined };
    if (caller.node !== undefined || caller.pod === undefined) return caller;
    const node = this.#options.nodeOfPod?.(caller.namespace, caller.pod.name, caller.pod.uid);
    return { ...caller, node };
  }

  #verdict(token: string, claims: TokenClaims, peer: string): Promise<Acceptance> {
    const key = createHash('sha256').update(token).digest('base64url');
    const known = this.#verdicts.get(key);
    this.#verdicts.delete(key);
    const fresh = known !== undefined && known.untilMs > this.#now();
    const verdict = fresh ? known : this.#review(token, claims, peer, known);
    this.#verdicts.set(key, verdict);
    if (!fresh) void this.#remember(key, verdict, claims.expiresMs);
    if (this.#verdicts.size > REVIEW_LIMITS.maxRemembered) {
      const [eldest] = this.#verdicts.keys();
      if (eldest !== undefined) this.#verdicts.delete(eldest);
    }
    return verdict.outcome;
  }

  #review(token: string, claims: TokenClaims, peer: string, known: Verdict | undefined): Verdict {
    const former = known?.former;
    return { outcome: this.#askOrBelieve(token, claims, peer, former), former, untilMs: Number.POSITIVE_INFINITY };
  }

  async #remember(key: string, verdict: Verdict, expiresMs: number): Promise<void> {
    const now = this.#now;
    const isNewest = (): boolean => this.#verdicts.get(key) === verdict;
    try {
      const accepted = await verdict.outcome;
      const lastsMs = accepted === verdict.former ? REVIEW_LIMITS.refusedMs : REVIEW_LIMITS.acceptedMs;
      const untilMs = Math.min(now() + lastsMs, expiresMs);
      if (isNewest()) this.#verdicts.set(key, { outcome: verdict.outcome, former: accepted, untilMs });
    } catch (thrown) {
      if (!isNewest()) return;
      const { outcome, former } = verdict;
      const untilMs = now() + REVIEW_LIMITS.refusedMs;
      const refused = toAmbitError(thrown, 'AUTHENTICATION').code === 'AUTHENTICATION';
      if (refused) this.#verdicts.set(key, { outcome, former: undefined, untilMs });
      // That nobody could be asked says nothing about the token.
      else if (former === undefined) this.#verdicts.delete(key);
      else this.#verdicts.set(key, { outcome, former, untilMs: 0 });
    }
  }

  async #askOrBelieve(
    token: string,
    claims: TokenClaims,
    peer: string,
    former: Acceptance | undefined,
  ): Promise<Acceptance> {
    try {
      return { caller: await this.#ask(token, claims, peer), atMs: this.#now() };
    } catch (thrown) {
      if (former === undefined || !this.#isAgent(former.caller) || !isSilence(thrown)) throw thrown;
      if (this.#now() - former.atMs > REVIEW_LIMITS.believedMs) throw thrown;
      return former;
    }
  }

  #isAgent({ namespace, serviceAccount }: Caller): boolean {
    return this.#options.nodeAccounts.has(`${namespace}/${serviceAccount}`);
  }

  async #ask(token: string, claims: TokenClaims, peer: string): Promise<Caller> {
    const signature = await this.#options.keys?.verify(token, claims.keyId);
    if (signature === 'forged') {
      throw new AmbitError('AUTHENTICATION', 'the token is not signed by a key of the API server');
    }
    // Many agents may come from one address; what is signed nobody has made up. A peer's port changes all the time.
    if (signature !== 'signed' && !this.#peers.take(peer.replace(/:[0-9]+$/, ''))) {
      throw new AmbitError('RATE_LIMITED', 'the peer comes with too many tokens');
    }
    if (this.#underWay >= REVIEW_LIMITS.maxUnderWay || !this.#total.take('')) {
      throw new AmbitError('RATE_LIMITED', 'too many tokens are to be reviewed');
    }
    const { audiences } = this.#options;
    this.#underWay++;
    this.#reviews++;
    try {
      const body = tokenReview(token, audiences);
      const options = { timeoutMs: REVIEW_LIMITS.timeoutMs };
      const answer = await this.#client.review(RESOURCES.TokenReview, '', body, options);
      return callerOfReview(answer, audiences, claims.expiresMs);
    } finally {
      this.#underWay--;
    }
  }
}

/** The API server did not answer, or answered that it cannot. */
function isSilence(thrown: unknown): boolean {
  return thrown instanceof KubernetesApiError && (thrown.status === 0 || thrown.status >= 500);
}
