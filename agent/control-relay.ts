/**
 * Dedicated mode: the agent lives behind its own capture rules, and its calls to the control plane must not be carried by
 * the data plane that waits for their answers. They go over loopback to this relay, and on from sockets with the proxy's
 * mark, which the rules let pass. TLS is end to end: only sealed bytes move here, to one fixed address.
 */
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { AmbitError } from '../core/errors.ts';
import { getIp, parseAuthority } from '../core/ip.ts';
import { logger } from '../core/log.ts';
import { PROXY_MARK } from '../core/ports.ts';
import { connectMarked } from '../reactor/marked-socket.ts';
import type { ControlEndpoint } from './state/control-channel.ts';

/** Channels of one agent: xDS and CA, each once more while it reconnects. */
const MAX_CONNECTIONS = 8;
const log = logger('agent');

/** The relays of one agent, by the address they stand for. */
export class ControlRelays {
  readonly #servers = new Map<string, Server>();
  readonly #open = new Set<Socket>();

  /** A relay for each address, on a free port of 127.0.0.1. Throws CONFIGURATION for what is not `host:port`. */
  static async open(addresses: Iterable<string>): Promise<ControlRelays> {
    const relays = new ControlRelays();
    for (const address of new Set(addresses)) {
      const server = relays.#serve(address).listen(0, '127.0.0.1').unref();
      relays.#servers.set(address, server);
      await once(server, 'listening');
    }
    return relays;
  }

  /** The same endpoint, reached through its relay. */
  reach(endpoint: ControlEndpoint): ControlEndpoint {
    const address = this.#servers.get(endpoint.address)?.address();
    if (address === null || typeof address !== 'object') return endpoint;
    const serverName = endpoint.serverName ?? splitAddress(endpoint.address).host;
    return { ...endpoint, address: `127.0.0.1:${address.port}`, serverName };
  }

  close(): void {
    for (const server of this.#servers.values()) server.close();
    for (const socket of this.#open) socket.destroy();
  }

  #serve(address: string): Server {
    const { host, port } = splitAddress(address);
    const server = createServer({ allowHalfOpen: true }, (local) => {
      this.#open.add(local);
      local.on('error', () => {}).once('close', () => this.#open.delete(local));
      relay(local, host, port).catch((error: unknown) => {
        log.warn({ address, error: String(error) }, 'the control plane cannot be reached');
        local.destroy();
      });
    });
    server.maxConnections = MAX_CONNECTIONS;
    return server;
  }
}

function splitAddress(text: string): { host: string; port: number } {
  const parsed = parseAuthority(text);
  if (parsed === undefined) throw new AmbitError('CONFIGURATION', `not host:port: ${text}`);
  return parsed.kind === 'name' ? parsed : { host: parsed.address.ip, port: parsed.address.port };
}

async function relay(local: Socket, host: string, port: number): Promise<void> {
  const { address } = await lookup(host);
  if (local.destroyed) return;
  const remote = connectMarked(getIp(address), port, PROXY_MARK);
  await new Promise<void>((resolve, reject) => {
    remote.once('error', reject).once('connect', resolve);
    local.once('close', () => remote.destroy());
  });
  pipeline(local, remote, local, () => {});
}
