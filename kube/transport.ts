/**
 * HTTP to one API server: connections, TLS, the credential of the moment, time limits and bounded bodies. Knows nothing of
 * objects.
 *
 * HTTP/1.1 over `node:https` with agents of our own, so that neither a proxy of the environment nor a relaxed TLS setting
 * of the process reaches these connections. Calls and watches use separate pools: a call never waits for a watch. TCP
 * keep-alive finds peers that vanished without a word; a server that is there and silent is found by time limits.
 */
import { randomBytes } from 'node:crypto';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { toAmbitError } from '../core/errors.ts';
import { apiErrorOf, KubernetesApiError } from './api-error.ts';
import { CallScope } from './call-scope.ts';
import type { Credential, CredentialState } from './credential.ts';

export const TRANSPORT_LIMITS = {
  /** Connections for calls; further calls wait within their time limit. */
  callConnections: 16,
  idleCallConnections: 4,
  /** Longest answer of a call, a page of a list included. */
  maxAnswerBytes: 64 * 1024 * 1024,
  callTimeoutMs: 30_000,
  /** Silence after which the kernel asks whether the peer is still there. */
  keepAliveMs: 15_000,
} as const;

/** Longest refusal that is read. */
const MAX_REFUSAL_BYTES = 1024 * 1024;
/** Kept connections that may turn out closed before a call fails: as many as can be kept. */
const MAX_STALE_CONNECTIONS = TRANSPORT_LIMITS.idleCallConnections;

export interface HttpCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Absolute path on the server, without the path of the server's URL. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>> | undefined;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Of the body. */
  readonly contentType?: string | undefined;
  /** A media type that is JSON by another name. */
  readonly accept?: string | undefined;
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

type Pool = 'calls' | 'watches';

interface Connections {
  readonly state: CredentialState;
  readonly calls: Agent;
  readonly watches: Agent;
}

export class Transport {
  readonly #credential: Credential;
  readonly #userAgent: string;
  #connections: Connections | undefined;
  #closed = false;

  constructor(credential: Credential, userAgent: string) {
    this.#credential = credential;
    this.#userAgent = userAgent;
  }

  /** The JSON of a 2xx answer; undefined for an empty one. Throws KubernetesApiError for everything else. */
  async call(call: HttpCall): Promise<unknown> {
    const text = await this.callText(call);
    return text === '' ? undefined : parseJson(call, text);
  }

  /** The text of a 2xx answer. Throws KubernetesApiError for everything else. */
  async callText(call: HttpCall): Promise<string> {
    using scope = new CallScope(call.signal, call.timeoutMs ?? TRANSPORT_LIMITS.callTimeoutMs);
    const response = await this.#exchange(call, 'calls', scope.signal);
    return await readBody(call, response, TRANSPORT_LIMITS.maxAnswerBytes, scope.signal);
  }

  /**
   * Opens an answer that is read while it comes; the time limit is for its beginning. The caller owns the stream, gives it
   * an `error` handler in the same tick and destroys it.
   */
  async open(call: HttpCall): Promise<IncomingMessage> {
    using scope = new CallScope(call.signal, call.timeoutMs ?? TRANSPORT_LIMITS.callTimeoutMs);
    return await this.#exchange(call, 'watches', scope.signal);
  }

  /**
   * Upgrades a connection of its own to a WebSocket of `protocol`. The caller owns the socket; `head` came after the
   * answer.
   */
  async upgrade(call: HttpCall, protocol: string): Promise<{ readonly socket: Duplex; readonly head: Buffer }> {
    using scope = new CallScope(call.signal, call.timeoutMs ?? TRANSPORT_LIMITS.callTimeoutMs);
    const { state, watches } = await this.#ready(call);
    const headers: Record<string, string> = {
      'user-agent': this.#userAgent,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': randomBytes(16).toString('base64'),
      'sec-websocket-protocol': protocol,
    };
    if (state.authorization !== undefined) headers.authorization = state.authorization;
    const request = httpsRequest(this.#url(call), { method: 'GET', agent: watches, headers });
    return await new Promise((resolve, reject) => {
      const onAbort = (): void => {
        request.destroy();
        reject(unreachable(call, String(scope.signal.reason)));
      };
      scope.signal.addEventListener('abort', onAbort, { once: true });
      request.on('error', (thrown) => reject(unreachable(call, describeFailure(thrown), thrown)));
      request.on('response', (response) => {
        response.on('error', () => {});
        refusalOf(call, response, scope.signal).then(reject, reject);
      });
      request.on('upgrade', (response, socket, head) => {
        socket.on('error', () => {});
        scope.signal.removeEventListener('abort', onAbort);
        if (response.headers['sec-websocket-protocol'] === protocol) resolve({ socket, head });
        else {
          socket.destroy();
          reject(malformed(call, `the server does not speak ${protocol}`));
        }
      });
      request.end();
    });
  }

  /** Calls that are under way fail. */
  close(): void {
    this.#closed = true;
    this.#dropConnections();
  }

  /** Resolves with a 2xx answer whose body was not read yet. */
  async #exchange(call: HttpCall, pool: Pool, signal: AbortSignal): Promise<IncomingMessage> {
    for (let stale = 0, refused = false; ; ) {
      const { state, [pool]: agent } = await this.#ready(call);
      const outcome = await this.#send(call, agent, state, signal);
      if (outcome.kind === 'failed') {
        // The server may close a kept connection in the moment in which it is picked. Reading twice does no harm.
        if (!outcome.stale || call.method !== 'GET' || stale >= MAX_STALE_CONNECTIONS) throw outcome.error;
        stale++;
        continue;
      }
      const { response } = outcome;
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300) return response;
      const error = await refusalOf(call, response, signal);
      if (status === 401) this.#credential.refused();
      // The token may have been rotated this very moment.
      if (status !== 401 || refused) throw error;
      refused = true;
    }
  }

  #send(call: HttpCall, agent: Agent, state: CredentialState, signal: AbortSignal): Promise<Outcome> {
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const headers: Record<string, string | number> = {
      accept: call.accept ?? 'application/json',
      'user-agent': this.#userAgent,
    };
    if (state.authorization !== undefined) headers.authorization = state.authorization;
    if (body !== undefined) {
      headers['content-type'] = call.contentType ?? 'application/json';
      headers['content-length'] = body.length;
    }
    return new Promise((resolve) => {
      const options = { method: call.method, agent, headers };
      const request: ClientRequest = httpsRequest(this.#url(call), options);
      const onAbort = (): void => {
        request.destroy();
        resolve({ kind: 'failed', stale: false, error: unreachable(call, String(signal.reason)) });
      };
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
      request.on('error', (thrown) => {
        signal.removeEventListener('abort', onAbort);
        const error = unreachable(call, describeFailure(thrown), thrown);
        resolve({ kind: 'failed', stale: request.reusedSocket, error });
      });
      request.on('response', (response) => {
        signal.removeEventListener('abort', onAbort);
        // Whoever takes the answer listens for itself; without a listener an error of the socket would end the process.
        response.on('error', () => {});
        resolve({ kind: 'answered', response });
      });
      request.end(body);
    });
  }

  #url(call: HttpCall): string {
    const query = call.query === undefined ? '' : new URLSearchParams(call.query).toString();
    return `${this.#credential.server}${call.path}${query === '' ? '' : `?${query}`}`;
  }

  /** Connections with the credential of now. Changed certificates get new connections; watches under way keep theirs. */
  async #ready(call: HttpCall): Promise<Connections> {
    if (this.#closed) throw unreachable(call, 'the client is closed');
    const state = await this.#credential.current();
    const known = this.#connections;
    const same =
      known !== undefined &&
      known.state.ca === state.ca &&
      known.state.cert === state.cert &&
      known.state.key === state.key;
    if (same) return { ...known, state };
    this.#connections = this.#openConnections(state);
    if (known !== undefined) retire(known.calls);
    return this.#connections;
  }

  #openConnections(state: CredentialState): Connections {
    const tls = {
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      ca: state.ca,
      cert: state.cert,
      key: state.key,
      ...(this.#credential.serverName === undefined ? {} : { servername: this.#credential.serverName }),
      keepAliveMsecs: TRANSPORT_LIMITS.keepAliveMs,
      keepAlive: true,
    } as const;
    const { callConnections, idleCallConnections } = TRANSPORT_LIMITS;
    return {
      state,
      calls: new Agent({ ...tls, maxSockets: callConnections, maxFreeSockets: idleCallConnections }),
      watches: new Agent({ ...tls, maxFreeSockets: 1 }),
    };
  }

  #dropConnections(): void {
    this.#connections?.calls.destroy();
    this.#connections?.watches.destroy();
    this.#connections = undefined;
  }
}

/** Closes what is idle now and everything else when its call is over. */
function retire(agent: Agent): void {
  agent.maxFreeSockets = 0;
  for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
}

type Outcome =
  | { readonly kind: 'answered'; readonly response: IncomingMessage }
  /** `stale`: on a kept connection, so perhaps only that was gone. */
  | { readonly kind: 'failed'; readonly stale: boolean; readonly error: KubernetesApiError };

/** There was no answer, or it ended in the middle. */
export function unreachable(call: HttpCall, why: string, cause?: unknown): KubernetesApiError {
  const detail = `${call.method} ${call.path}: ${why}`;
  return new KubernetesApiError(detail, { status: 0, reason: 'Unreachable', cause });
}

function malformed(call: HttpCall, why: string): KubernetesApiError {
  return new KubernetesApiError(`${call.method} ${call.path}: ${why}`, { status: 0, reason: 'MalformedAnswer' });
}

function describeFailure(thrown: unknown): string {
  const error = toAmbitError(thrown, 'KUBERNETES_API');
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
  // Connecting to several addresses fails with an empty text.
  return error.message === '' ? code : error.message;
}

async function refusalOf(call: HttpCall, response: IncomingMessage, signal: AbortSignal): Promise<KubernetesApiError> {
  let body: unknown;
  try {
    body = parseJson(call, await readBody(call, response, MAX_REFUSAL_BYTES, signal));
  } catch {
    // The status alone must do.
  }
  const seconds = Number(response.headers['retry-after'] ?? Number.NaN);
  const retryAfterMs = Number.isFinite(seconds) ? Math.min(seconds, 3600) * 1000 : undefined;
  return apiErrorOf(`${call.method} ${call.path}`, response.statusCode ?? 0, body, retryAfterMs);
}

/** The whole body as text. */
function readBody(call: HttpCall, response: IncomingMessage, limit: number, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const fail = (error: KubernetesApiError): void => {
      signal.removeEventListener('abort', onAbort);
      reject(error);
      response.destroy();
    };
    const onAbort = (): void => fail(unreachable(call, String(signal.reason)));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    if (response.destroyed) return fail(unreachable(call, 'the connection ended in the middle of the answer'));
    response.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > limit) {
        const detail = `${call.method} ${call.path}: the answer is larger than ${limit} bytes`;
        fail(new KubernetesApiError(detail, { status: 0, reason: 'AnswerTooLarge' }));
      } else chunks.push(chunk);
    });
    response.on('error', (thrown) => fail(unreachable(call, describeFailure(thrown), thrown)));
    response.on('close', () => {
      if (!response.complete) fail(unreachable(call, 'the connection ended in the middle of the answer'));
    });
    response.on('end', () => {
      signal.removeEventListener('abort', onAbort);
      resolve(Buffer.concat(chunks).toString('utf8'));
    });
  });
}

function parseJson(call: HttpCall, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw malformed(call, 'the answer is not JSON');
  }
}
