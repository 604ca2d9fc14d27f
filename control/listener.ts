/**
 * The TCP listener in front of the gRPC server: it counts connections before a byte of TLS is read, and lets go of those
 * that never prove who they are.
 *
 *   accepted (unproven) -> proven (a call on it was authenticated)
 *
 * An unproven connection has a deadline, and there is room for few of them, in all and of one address. When all of the
 * room is taken the address that holds most of it loses its oldest one, so that strangers cannot keep others out by
 * holding connections open. Proven connections count towards a total and towards that of their address only.
 */
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import {
  type Metadata,
  type Server,
  type ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
  status,
} from '@grpc/grpc-js';
import { AmbitError } from '../core/errors.ts';
import { formatSocketAddress, type SocketAddress } from '../core/ip.ts';
import { logger } from '../core/log.ts';
import type { ControlMetrics } from './metrics.ts';
import { RateLimit } from './rate-limit.ts';

export interface ListenerLimits {
  readonly maxConnections: number;
  readonly maxPerAddress: number;
  readonly maxUnproven: number;
  readonly maxUnprovenPerAddress: number;
  /** Time for the TLS handshake and the first authenticated call together. */
  readonly proveWithinMs: number;
  /** Connections of one address at once, and per second in the long run. */
  readonly acceptBurst: number;
  readonly acceptsPerSecond: number;
  /** Calls without a valid proof on one connection. */
  readonly maxRefusedCalls: number;
  /** Calls on one connection that were not found valid: refused, taken back by their caller, or not judged yet. */
  readonly maxUnjudgedCalls: number;
}

export const LISTENER_LIMITS: ListenerLimits = {
  maxConnections: 12_000,
  maxPerAddress: 512,
  maxUnproven: 1024,
  maxUnprovenPerAddress: 64,
  proveWithinMs: 15_000,
  acceptBurst: 256,
  acceptsPerSecond: 32,
  maxRefusedCalls: 10,
  maxUnjudgedCalls: 100,
};

/** Why a connection was refused or closed; values of a metric label. */
export type ConnectionRefusal =
  | 'too many connections'
  | 'too many of the address'
  | 'too many unproven of the address'
  | 'made room'
  | 'opened too often'
  | 'not proven in time'
  | 'refused calls'
  | 'stuck';

interface Connection {
  readonly socket: Socket;
  readonly peer: string;
  readonly address: string;
  readonly deadline: NodeJS.Timeout;
  refusedCalls: number;
  /** Calls that came, less those that were found valid. */
  unjudgedCalls: number;
}

/** Addresses whose pace is remembered. */
const MAX_ADDRESSES = 10_000;
const NO_CALLS = { refusedCalls: 0, unjudgedCalls: 0 };
const LINES = { burst: 50, perSecond: 5, maxKeys: 1 };

const log = logger('listener');

export class ControlListener {
  readonly #metrics: ControlMetrics;
  readonly #limits: ListenerLimits;
  #server: NetServer | undefined;
  readonly #connections = new Map<string, Connection>();
  /** In the order of their arrival, by address. */
  readonly #unproven = new Map<string, Set<Connection>>();
  readonly #perAddress = new Map<string, number>();
  readonly #accepts: RateLimit;
  readonly #lines = new RateLimit(LINES);
  #unprovenCount = 0;

  constructor(metrics: ControlMetrics, limits: Partial<ListenerLimits> = {}) {
    this.#metrics = metrics;
    this.#limits = { ...LISTENER_LIMITS, ...limits };
    const { acceptBurst, acceptsPerSecond } = this.#limits;
    this.#accepts = new RateLimit({ burst: acceptBurst, perSecond: acceptsPerSecond, maxKeys: MAX_ADDRESSES });
  }

  /** The interceptors of the server: those that authenticate, between two that learn from them what a call has proven. */
  interceptors(authentication: ServerInterceptor): ServerInterceptor[] {
    /** Calls whose caller was authenticated: what a service refuses them afterwards says nothing about the connection. */
    const admitted = new WeakSet<Metadata>();
    const watch: ServerInterceptor = (_method, call) => {
      let headers: Metadata | undefined;
      return new ServerInterceptingCall(call, {
        start: (next) => {
          const listener = new ServerListenerBuilder().withOnReceiveMetadata((metadata, proceed) => {
            headers = metadata;
            if (this.#arrived(call.getPeer())) proceed(metadata);
          });
          next(listener.build());
        },
        sendStatus: (sent, next) => {
          const known = headers !== undefined && admitted.has(headers);
          if (sent.code === status.UNAUTHENTICATED && !known) this.refused(call.getPeer());
          next(sent);
        },
      });
    };
    const admit: ServerInterceptor = (_method, call) =>
      new ServerInterceptingCall(call, {
        start: (next) => {
          const listener = new ServerListenerBuilder().withOnReceiveMetadata((metadata, proceed) => {
            admitted.add(metadata);
            this.proven(call.getPeer());
            proceed(metadata);
          });
          next(listener.build());
        },
      });
    return [watch, authentication, admit];
  }

  /**
   * Accepts connections and hands them to `grpc`, which speaks TLS with `credentials`. Resolves with the port in use.
   * @throws AmbitError `CONFIGURATION` when the address cannot be listened on
   */
  listen(grpc: Server, credentials: ServerCredentials, address: SocketAddress): Promise<number> {
    const injector = grpc.createConnectionInjector(credentials);
    const server = createServer({ noDelay: true }, (socket) => {
      if (this.#admit(socket)) injector.injectConnection(socket);
    });
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.on('error', (error) => {
        const text = formatSocketAddress(address);
        reject(new AmbitError('CONFIGURATION', `cannot listen on ${text}: ${error.message}`, { cause: error }));
      });
      server.listen(address.port, address.ip, () => {
        const bound = server.address();
        resolve(typeof bound === 'object' && bound !== null ? bound.port : address.port);
      });
    });
  }

  /** Connections that stand, and those of them that have proven nothing yet. */
  counts(): { readonly connections: number; readonly unproven: number } {
    return { connections: this.#connections.size, unproven: this.#unprovenCount };
  }

  /** A call on the connection of `peer` (`getPeer` of the call) was authenticated. */
  proven(peer: string): void {
    const connection = this.#connections.get(peer);
    if (connection === undefined) return;
    connection.unjudgedCalls--;
    if (!this.#forgetUnproven(connection)) return;
    clearTimeout(connection.deadline);
    this.#report();
  }

  /** A call on the connection of `peer` was refused because nobody vouched for its caller. */
  refused(peer: string): void {
    const connection = this.#connections.get(peer);
    if (connection === undefined) return;
    connection.refusedCalls++;
    if (connection.refusedCalls >= this.#limits.maxRefusedCalls) this.#close(connection, 'refused calls');
  }

  /** Closes the connection of `peer` at once, whatever it still has to read. */
  disconnect(peer: string): void {
    const connection = this.#connections.get(peer);
    if (connection !== undefined) this.#close(connection, 'stuck');
  }

  /** No new connections; those that stand go on. */
  stopListening(): void {
    this.#server?.close();
  }

  /** Waits up to `graceMs` for connections to end (the gRPC server has asked them to), then ends those that are left. */
  async close(graceMs = 0): Promise<void> {
    this.#server?.close();
    const sockets = [...this.#connections.values()].map(({ socket }) => socket);
    const closed = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
    const timer = setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, graceMs);
    await Promise.all(closed);
    clearTimeout(timer);
  }

  /** A call came on the connection of `peer`. False when it is one too many: whoever takes calls back is never refused. */
  #arrived(peer: string): boolean {
    const connection = this.#connections.get(peer);
    if (connection === undefined) return true;
    connection.unjudgedCalls++;
    if (connection.unjudgedCalls <= this.#limits.maxUnjudgedCalls) return true;
    this.#close(connection, 'refused calls');
    return false;
  }

  /** True for a socket that may speak. */
  #admit(socket: Socket): boolean {
    socket.on('error', () => undefined);
    const { remoteAddress: address, remotePort } = socket;
    if (address === undefined || remotePort === undefined) {
      socket.destroy();
      return false;
    }
    const refusal = this.#refusalOf(address);
    if (refusal !== undefined) {
      this.#count(refusal, address);
      socket.resetAndDestroy();
      return false;
    }
    if (this.#unprovenCount >= this.#limits.maxUnproven) this.#makeRoom();
    const deadline = setTimeout(
      () => this.#close(connection, 'not proven in time'),
      this.#limits.proveWithinMs,
    ).unref();
    const connection: Connection = { socket, peer: `${address}:${remotePort}`, address, deadline, ...NO_CALLS };
    this.#connections.set(connection.peer, connection);
    this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1);
    const unproven = this.#unproven.get(address) ?? new Set();
    unproven.add(connection);
    this.#unproven.set(address, unproven);
    this.#unprovenCount++;
    socket.once('close', () => this.#gone(connection));
    this.#report();
    return true;
  }

  #refusalOf(address: string): ConnectionRefusal | undefined {
    const { maxConnections, maxPerAddress, maxUnprovenPerAddress } = this.#limits;
    if (this.#connections.size >= maxConnections) return 'too many connections';
    if ((this.#perAddress.get(address) ?? 0) >= maxPerAddress) return 'too many of the address';
    if ((this.#unproven.get(address)?.size ?? 0) >= maxUnprovenPerAddress) return 'too many unproven of the address';
    return this.#accepts.take(address) ? undefined : 'opened too often';
  }

  #makeRoom(): void {
    let most: Set<Connection> = new Set();
    for (const connections of this.#unproven.values()) if (connections.size > most.size) most = connections;
    const [oldest] = most;
    if (oldest !== undefined) this.#close(oldest, 'made room');
  }

  #close(connection: Connection, reason: ConnectionRefusal): void {
    this.#count(reason, connection.address);
    this.#gone(connection);
    connection.socket.resetAndDestroy();
  }

  #gone(connection: Connection): void {
    clearTimeout(connection.deadline);
    this.#forgetUnproven(connection);
    if (this.#connections.get(connection.peer) !== connection) return;
    this.#connections.delete(connection.peer);
    const left = (this.#perAddress.get(connection.address) ?? 1) - 1;
    if (left === 0) this.#perAddress.delete(connection.address);
    else this.#perAddress.set(connection.address, left);
    this.#report();
  }

  /** True when it was unproven. */
  #forgetUnproven(connection: Connection): boolean {
    const connections = this.#unproven.get(connection.address);
    if (connections?.delete(connection) !== true) return false;
    if (connections.size === 0) this.#unproven.delete(connection.address);
    this.#unprovenCount--;
    return true;
  }

  #count(reason: ConnectionRefusal, address: string): void {
    this.#metrics.connectionRefusals.inc({ reason });
    if (this.#lines.take('')) log.warn({ address, reason }, 'connection closed');
  }

  #report(): void {
    this.#metrics.connections.set({ state: 'unproven' }, this.#unprovenCount);
    this.#metrics.connections.set({ state: 'proven' }, this.#connections.size - this.#unprovenCount);
  }
}
