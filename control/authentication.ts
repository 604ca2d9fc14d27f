/**
 * Who is calling: the interface behind which every way of authentication stands, the chain of those in use, and the
 * interceptor that asks it. The ways themselves are in `tokens.ts` and `authentication/`.
 *
 * A caller is a service account. An agent's token also names the node it runs on; only such callers may ask for the
 * identities of others (the CA decides for which). Failures are opaque to the peer and explained in the log.
 */
import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  ServerListenerBuilder,
  status,
} from '@grpc/grpc-js';
import { AmbitError, type ErrorCode, toAmbitError } from '../core/errors.ts';
import { logger } from '../core/log.ts';
import { RateLimit } from './rate-limit.ts';

export interface Caller {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The node that the caller, an agent, serves; undefined for a workload that speaks for itself, wherever it runs. */
  readonly node: string | undefined;
  /** The pod that the API server bound the caller's token to; undefined where nobody vouches for one. */
  readonly pod?: { readonly name: string; readonly uid: string } | undefined;
  /** Which proof was accepted. Whoever comes with a certificate can get a new one for itself and nothing else. */
  readonly how: 'token' | 'certificate';
  /** When the proof ends, milliseconds since the epoch. */
  readonly expiresMs: number;
}

/** Who shares bounds: the agents of a node, else a pod, else an account. */
export function callerKey({ node, pod, namespace, serviceAccount }: Caller): string {
  if (node !== undefined) return `node ${node}`;
  return pod === undefined ? `${namespace}/${serviceAccount}` : `pod ${pod.uid}`;
}

/** What a call brings besides its headers. */
export interface PeerConnection {
  /** `ip:port`. */
  readonly peer: string;
  /** DER of the client certificate that the TLS handshake verified against our roots; undefined without one. */
  readonly certificate: Uint8Array | undefined;
}

export interface Authenticator {
  /**
   * Rejects with AUTHENTICATION, or with RATE_LIMITED or KUBERNETES_API where nothing could be decided; the message is
   * for the log, never for the peer.
   */
  authenticate(metadata: Metadata, connection?: PeerConnection): Promise<Caller>;
}

/**
 * Tries each way in its order; the first that accepts decides. The refusal tells what every way had to say, and that
 * the caller may try again where one of them could not decide.
 */
export class AuthenticatorChain implements Authenticator {
  readonly #ways: readonly Authenticator[];

  constructor(ways: readonly Authenticator[]) {
    this.#ways = ways;
  }

  async authenticate(metadata: Metadata, connection?: PeerConnection): Promise<Caller> {
    const refusals: AmbitError[] = [];
    for (const way of this.#ways) {
      try {
        return await way.authenticate(metadata, connection);
      } catch (thrown) {
        refusals.push(toAmbitError(thrown, 'AUTHENTICATION'));
      }
    }
    const undecided = refusals.find(({ code }) => code !== 'AUTHENTICATION');
    const reasons = refusals.map(({ message }) => message).join('; ');
    throw new AmbitError(undecided?.code ?? 'AUTHENTICATION', reasons || 'no way of authentication is configured');
  }
}

/** Longest token that is looked at, characters. */
const MAX_TOKEN_LENGTH = 8192;

/** The bearer token of a call. Throws AUTHENTICATION when there is none, or not exactly one. */
export function bearerToken(metadata: Metadata): string {
  const values = metadata.get('authorization');
  const [value] = values;
  if (values.length !== 1 || typeof value !== 'string') {
    throw new AmbitError('AUTHENTICATION', 'the call has no single authorization header');
  }
  const match = /^Bearer ([A-Za-z0-9_.-]+)$/.exec(value.length > MAX_TOKEN_LENGTH ? '' : value);
  if (match?.[1] === undefined)
    throw new AmbitError('AUTHENTICATION', 'the authorization header is not a bearer token');
  return match[1];
}

const log = logger('authentication');

/** Lines about refused calls, of all strangers together: they must not be able to fill a disk. */
const REFUSAL_LINES = { burst: 50, perSecond: 5, maxKeys: 1 };

/**
 * Authenticates every call of a server before a byte of its messages is read, so that strangers cannot make the server
 * hold or decode anything. Handlers ask `callerOf` with the metadata of their call.
 */
export class CallAuthentication {
  readonly #authenticator: Authenticator;
  readonly #onRefused: (path: string) => void;
  readonly #callers = new WeakMap<Metadata, Caller>();
  readonly #lines = new RateLimit(REFUSAL_LINES);

  /** `onRefused` is told the path of each refused call. */
  constructor(authenticator: Authenticator, onRefused: (path: string) => void) {
    this.#authenticator = authenticator;
    this.#onRefused = onRefused;
  }

  readonly interceptor: ServerInterceptor = (method, call) =>
    new ServerInterceptingCall(call, {
      start: (next) => {
        const listener = new ServerListenerBuilder().withOnReceiveMetadata((metadata, proceed) => {
          this.#authenticator.authenticate(metadata, connectionOf(call)).then(
            (caller) => {
              this.#callers.set(metadata, caller);
              proceed(metadata);
            },
            (thrown) => {
              const { code, message: reason } = toAmbitError(thrown, 'AUTHENTICATION');
              if (this.#lines.take('')) log.warn({ peer: call.getPeer(), path: method.path, reason }, 'call refused');
              this.#onRefused(method.path);
              call.sendStatus(statusOf(code));
            },
          );
        });
        next(listener.build());
      },
    });

  /** The caller of a call that reached its handler. */
  callerOf(metadata: Metadata): Caller {
    const caller = this.#callers.get(metadata);
    if (caller === undefined) throw new AmbitError('USAGE', 'the call did not pass authentication');
    return caller;
  }
}

/** grpc-js names the client certificate only where the handshake has verified it. */
function connectionOf(call: ServerInterceptingCallInterface): PeerConnection {
  return { peer: call.getPeer(), certificate: call.getAuthContext().sslPeerCertificate?.raw };
}

/** What the peer is told: nothing but whether it may try again. */
function statusOf(error: ErrorCode): { code: status; details: string } {
  switch (error) {
    case 'RATE_LIMITED':
      return { code: status.RESOURCE_EXHAUSTED, details: 'too many calls' };
    case 'KUBERNETES_API':
      return { code: status.UNAVAILABLE, details: 'nobody can be authenticated now' };
    default:
      return { code: status.UNAUTHENTICATED, details: 'authentication failure' };
  }
}
