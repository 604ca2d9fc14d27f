/**
 * Plain HTTP for probes and operators. Readiness, liveness and metrics are for everybody; the views of the state are for
 * callers on loopback: somebody in the pod, or somebody whom the API server let forward a port to it (`pods/portforward`).
 * So who may look is a matter of RBAC, and no credential travels over this port. Nothing is secret, nothing can be written.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { boundConnections } from '../core/http-connections.ts';
import type { SocketAddress } from '../core/ip.ts';

export interface StatusSource {
  /** What readiness still waits for; empty when ready. */
  pending(): readonly string[];
  metrics(): Promise<{ readonly contentType: string; readonly text: string }>;
  /** The views under /debug by name. */
  readonly views: ReadonlyMap<string, () => unknown>;
}

/** See docs/LIMITS.md. */
export const STATUS_LIMITS = {
  maxConnections: 256,
  headersTimeoutMs: 2000,
  requestTimeoutMs: 5000,
  keepAliveTimeoutMs: 5000,
  silenceTimeoutMs: 5000,
} as const;

/** Listens; resolves with the server and its port. */
export function openStatusServer(
  address: SocketAddress,
  source: StatusSource,
): Promise<{ server: Server; port: number }> {
  const { headersTimeoutMs, requestTimeoutMs, keepAliveTimeoutMs } = STATUS_LIMITS;
  const times = {
    headersTimeout: headersTimeoutMs,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    connectionsCheckingInterval: 1000,
  };
  const server = createServer(times, (request, response) => {
    const send = (code: number, contentType: string, text: string): void => {
      response.writeHead(code, { 'content-type': contentType }).end(request.method === 'HEAD' ? undefined : text);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      send(405, 'text/plain', 'only GET\n');
      return;
    }
    // A stranger's text: not everything that HTTP lets through is a URL.
    const path = URL.parse(request.url ?? '/', 'http://status')?.pathname ?? '';
    const view = path.startsWith('/debug/') ? source.views.get(path.slice('/debug/'.length)) : undefined;
    if (path.startsWith('/debug/') && !isLoopback(request.socket.remoteAddress)) {
      send(403, 'text/plain', `only from loopback: ${PORT_FORWARD_HINT}\n`);
    } else if (view !== undefined) {
      send(200, 'application/json', `${JSON.stringify(view(), undefined, 2)}\n`);
    } else if (path === '/healthz/ready' || path === '/ready') {
      const pending = source.pending();
      send(
        pending.length === 0 ? 200 : 503,
        'text/plain',
        pending.length === 0 ? 'ready\n' : `waiting for ${pending.join(', ')}\n`,
      );
    } else if (path === '/healthz/live') {
      send(200, 'text/plain', 'alive\n');
    } else if (path === '/metrics') {
      source.metrics().then(
        ({ contentType, text }) => send(200, contentType, text),
        (thrown) => send(500, 'text/plain', `${toAmbitError(thrown, 'USAGE').message}\n`),
      );
    } else {
      const names = [...source.views.keys()].map((name) => `/debug/${name}`);
      send(404, 'text/plain', `${['/healthz/ready', '/healthz/live', '/metrics', ...names].join('\n')}\n`);
    }
  });
  server.timeout = STATUS_LIMITS.silenceTimeoutMs;
  boundConnections(server, STATUS_LIMITS.maxConnections);
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(new AmbitError('CONFIGURATION', `status port: ${error.message}`)));
    server.listen(address.port, address.ip, () => resolve({ server, port: boundPort(server.address()) }));
  });
}

const PORT_FORWARD_HINT = 'ambit proxy-status, or kubectl port-forward to this pod';

function isLoopback(address: string | undefined): boolean {
  const plain = address?.startsWith('::ffff:') === true ? address.slice('::ffff:'.length) : address;
  return plain === '::1' || plain?.startsWith('127.') === true;
}

function boundPort(address: AddressInfo | string | null): number {
  return typeof address === 'object' && address !== null ? address.port : 0;
}
