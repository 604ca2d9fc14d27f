/**
 * A data plane that only listens: plain Node servers on the three ports inside the pod, each of which greets with its port
 * number. Shows where the rules of a pod send a connection without any of the real data plane. `dialAs` opens a connection inside the pod the
 * way the agent does, with a foreign source address and the agent's mark.
 */
import { once } from 'node:events';
import { createServer, type Server, Socket } from 'node:net';
import type { EnrolledPod, PodCapture } from '../../agent/dataplane/pod-capture.ts';
import { getIp, isIpv6Address } from '../../core/ip.ts';
import { HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT, PROXY_MARK } from '../../core/ports.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import {
  CLOEXEC,
  IP_FREEBIND,
  IP_TRANSPARENT,
  IPV6_FREEBIND,
  IPV6_TRANSPARENT,
  SO_MARK,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  sys,
} from '../../reactor/sys/libc.ts';
import { encodeAddress, familyOf, scratchAddress } from '../../reactor/sys/socket-address.ts';
import { setOption } from '../../reactor/sys/socket-options.ts';

export class StandInCapture implements PodCapture, AsyncDisposable {
  readonly #servers = new Map<string, Server[]>();
  readonly #sockets = new Set<Socket>();
  /** What happened, in order: `add <name>` and `remove <uid>`. */
  readonly calls: string[] = [];
  /** Makes the next `addPod` reject. */
  failNext: Error | undefined;
  /** Ends connections as soon as they stand, with a reset. */
  resetting = false;

  async addPod(pod: EnrolledPod, netnsFd: number): Promise<void> {
    this.calls.push(`add ${pod.name}`);
    const failure = this.failNext;
    this.failNext = undefined;
    if (failure !== undefined) throw failure;
    const netns = NetworkNamespace.openPath(`/proc/self/fd/${netnsFd}`);
    const servers = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, HBONE_PORT].map((port) => {
      const server = createServer({ allowHalfOpen: true }, (socket) => this.#greet(socket, port));
      netns.run(() => server.listen({ port, exclusive: true, reusePort: true }));
      return server;
    });
    netns.close();
    this.#servers.set(pod.uid, servers);
    await Promise.all(servers.map((server) => once(server, 'listening')));
  }

  async removePod(uid: string): Promise<void> {
    this.calls.push(`remove ${uid}`);
    const servers = this.#servers.get(uid) ?? [];
    this.#servers.delete(uid);
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }

  setLeaving(uid: string, leaving: boolean): void {
    this.calls.push(`${leaving ? 'leaving' : 'staying'} ${uid}`);
  }

  /** Of all pods: a test has one that leaves. */
  countConnections(): Promise<number> {
    return Promise.resolve(this.#sockets.size);
  }

  isListening(uid: string): Promise<boolean> {
    return Promise.resolve(this.#servers.get(uid)?.every((server) => server.listening) ?? false);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const uid of [...this.#servers.keys()]) await this.removePod(uid);
  }

  #greet(socket: Socket, port: number): void {
    if (this.resetting) {
      socket.resetAndDestroy();
      return;
    }
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('end', () => socket.end());
    socket.resume();
    socket.write(`agent:${port}\n`);
  }
}

/** A connected socket inside the namespace whose source is `from`, marked as the agent's. */
export async function dialAs(netns: NetworkNamespace, from: string, to: string, port: number): Promise<Socket> {
  const source = getIp(from);
  const [level, transparent, freebind] = isIpv6Address(source)
    ? [SOL_IPV6, IPV6_TRANSPARENT, IPV6_FREEBIND]
    : [SOL_IP, IP_TRANSPARENT, IP_FREEBIND];
  const fd = netns.run(() => {
    const created = sys.socket(familyOf(source), SOCK_STREAM | CLOEXEC | 0o4000, 0);
    setOption(created, level, transparent, 1, 'transparent');
    setOption(created, level, freebind, 1, 'freebind');
    setOption(created, SOL_SOCKET, SO_MARK, PROXY_MARK, 'mark');
    const length = encodeAddress(source, 0, familyOf(source));
    if (sys.bind(created, scratchAddress, length) !== 0) throw new Error('bind failed');
    return created;
  });
  const socket = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
  socket.connect({ host: to, port });
  await once(socket, 'connect', { signal: AbortSignal.timeout(5_000) });
  return socket;
}
