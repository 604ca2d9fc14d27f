/**
 * Who is calling: the interface behind which every way of authentication stands, and signed tokens as one of them.
 *
 * A caller is a service account. An agent's token also names the node it runs on; only such callers may ask for the
 * identities of others (the CA decides for which). Failures are opaque to the peer and explained in the log.
 */
import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
  status,
} from '@grpc/grpc-js';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { logger } from '../core/log.ts';
import { RateLimit } from './rate-limit.ts';

export interface Caller {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The node the caller is bound to; undefined for a workload that speaks for itself. */
  readonly node: string | undefined;
  /** Milliseconds since the epoch. */
  readonly expiresMs: number;
}

export interface Authenticator {
  /** Rejects with AUTHENTICATION; the message is for the log, never for the peer. */
  authenticate(metadata: Metadata): Promise<Caller>;
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
          this.#authenticator.authenticate(metadata).then(
            (caller) => {
              this.#callers.set(metadata, caller);
              proceed(metadata);
            },
            (thrown) => {
              const reason = toAmbitError(thrown, 'AUTHENTICATION').message;
              if (this.#lines.take('')) log.warn({ peer: call.getPeer(), path: method.path, reason }, 'call refused');
              this.#onRefused(method.path);
              call.sendStatus({ code: status.UNAUTHENTICATED, details: 'authentication failure' });
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
