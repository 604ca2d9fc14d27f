/**
 * The small HTTP server behind the admin, metrics and readiness ports: a table of routes, GET and HEAD unless a route
 * says POST, tight limits on what a client may send, no request bodies.
 *
 * Ports on loopback also demand that the request names loopback in `Host`, and refuse requests a web page sends
 * (`Origin`): a page in the operator's browser must not reach the agent by a DNS name of its own.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { AmbitError } from '../../core/errors.ts';
import { boundConnections } from '../../core/http-connections.ts';
import { logger } from '../../core/log.ts';

export interface Answer {
  readonly status: number;
  readonly type: 'application/json' | 'text/plain; charset=utf-8' | 'text/html; charset=utf-8' | (string & {});
  readonly body: string;
}

export interface Route {
  readonly method: 'GET' | 'POST';
  readonly answer: (query: URLSearchParams, request: IncomingMessage) => Answer | Promise<Answer>;
}

export interface HttpServerOptions {
  readonly port: number;
  /** True: listens on 127.0.0.1 only and checks `Host` and `Origin`. False: listens on every address. */
  readonly loopbackOnly: boolean;
  /** By exact path. */
  readonly routes: Readonly<Record<string, Route>>;
}

export interface HttpServer {
  readonly port: number;
  close(): Promise<void>;
}

/** See docs/LIMITS.md. */
export const ADMIN_LIMITS = {
  maxHeaderBytes: 8192,
  headersTimeoutMs: 2000,
  requestTimeoutMs: 5000,
  keepAliveTimeoutMs: 5000,
  silenceTimeoutMs: 5000,
  maxConnections: 64,
  maxHeaders: 64,
} as const;

const log = logger('admin');

export function text(status: number, body: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body };
}

export function json(value: unknown, status = 200): Answer {
  return { status, type: 'application/json', body: `${JSON.stringify(value, null, 2)}\n` };
}

/** Resolves when it listens; rejects with SYSTEM_CALL when the port cannot be had. */
export async function openHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const server = createServer(
    {
      maxHeaderSize: ADMIN_LIMITS.maxHeaderBytes,
      headersTimeout: ADMIN_LIMITS.headersTimeoutMs,
      requestTimeout: ADMIN_LIMITS.requestTimeoutMs,
      keepAliveTimeout: ADMIN_LIMITS.keepAliveTimeoutMs,
      connectionsCheckingInterval: 1000,
    },
    (request, response) => void respond(options, request, response),
  );
  server.timeout = ADMIN_LIMITS.silenceTimeoutMs;
  boundConnections(server, ADMIN_LIMITS.maxConnections);
  server.maxHeadersCount = ADMIN_LIMITS.maxHeaders;
  if (options.loopbackOnly) await listen(server, options.port, '127.0.0.1');
  else await listen(server, options.port, '::').catch(() => listen(server, options.port, '0.0.0.0'));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    close: () => closeServer(server),
  };
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = (error: NodeJS.ErrnoException): void => {
      const details = error.errno === undefined ? { cause: error } : { cause: error, errno: -error.errno };
      reject(new AmbitError('SYSTEM_CALL', `cannot listen on ${host} port ${port}: ${error.code}`, details));
    };
    server.once('error', refuse);
    server.listen({ port, host }, () => {
      server.off('error', refuse);
      server.on('error', (error) => log.error({ err: error }, 'admin server failed'));
      resolve();
    });
  });
}

function closeServer(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeAllConnections();
  return promise;
}

async function respond(options: HttpServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  request.resume();
  const answer = await answerTo(options, request).catch((error: unknown) => {
    log.error({ err: error, path: request.url?.slice(0, 128) }, 'admin page failed');
    return text(500, 'internal error; see the log of the agent\n');
  });
  const body = Buffer.from(answer.body);
  response.writeHead(answer.status, {
    'content-type': answer.type,
    'content-length': body.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(request.complete ? {} : { connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

async function answerTo(options: HttpServerOptions, request: IncomingMessage): Promise<Answer> {
  if (options.loopbackOnly && !isLocalRequest(request)) {
    return text(403, 'this port answers requests to localhost, 127.0.0.1 or [::1] only, and none from web pages\n');
  }
  const url = URL.parse(request.url ?? '', 'http://localhost');
  const route = url === null ? undefined : Object.hasOwn(options.routes, url.pathname) && options.routes[url.pathname];
  if (url === null || !route) return text(404, 'not found\n');
  const allowed = route.method === 'GET' ? ['GET', 'HEAD'] : ['POST'];
  if (!allowed.includes(request.method ?? '')) return text(405, `this page takes ${allowed.join(' and ')} only\n`);
  return route.answer(url.searchParams, request);
}

function isLocalRequest(request: IncomingMessage): boolean {
  const { host, origin } = request.headers;
  return origin === undefined && /^(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?$/i.test(host ?? '');
}
