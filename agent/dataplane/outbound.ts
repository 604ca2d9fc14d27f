/**
 * The outbound path: a connection of a local pod's application, redirected to port 15001.
 *
 *     accept -> original destination -> guard -> source workload -> decide -> open (tunnel | same node | plain) -> splice -> record
 *
 * One object per connection. Until the far side is open nothing is read from the application; its socket only tells when
 * it breaks. A refusal resets the application's connection, and the reason stands in the record.
 */
import { AmbitError, unreachable } from '../../core/errors.ts';
import { formatSocketAddress, type IpAddress, isIpv6Address, isLoopback, type SocketAddress } from '../../core/ip.ts';
import { isSelfTest, PROXY_MARK, PROXY_PORTS } from '../../core/ports.ts';
import type { TunnelOpenHandler } from '../../hbone/pool.ts';
import { type Splice, type SpliceResult, spliceTunnel } from '../../hbone/splice.ts';
import { spliceSockets } from '../../hbone/splice-sockets.ts';
import type { Tunnel } from '../../hbone/tunnel.ts';
import type { ChannelOwner } from '../../reactor/byte-channel.ts';
import { type ConnectHandler, connectTcp } from '../../reactor/tcp-connect.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import { decideOutbound, type OutboundDecision } from '../route/outbound.ts';
import type { Workload } from '../state/workload.ts';
import { formatBaggage, formatForwarded, newTraceparent } from './baggage.ts';
import type { ConnectionRecord, Cuttable, RecordFacts } from './connection-record.ts';
import type { Seat } from './connection-seats.ts';
import type { LocalPod } from './local-pod.ts';
import { openSameNodeArrival } from './same-node.ts';
import { awaitVerdict, type VerdictHandler } from './verdict.ts';
import { identityKey, type Wait, type Waiting, workloadKey } from './wait-queue.ts';
import type { WorkerContext } from './worker-context.ts';

/** What the policy of the other side answers; it would elsewhere too. */
const DENIED_STATUS = 401;

type TunnelDecision = OutboundDecision & { readonly kind: 'tunnel' };

export class OutboundConnection
  implements ChannelOwner, ConnectHandler, TunnelOpenHandler, Waiting, VerdictHandler, Cuttable
{
  readonly #worker: WorkerContext;
  readonly #pod: LocalPod;
  readonly #socket: TcpSocket;
  readonly #seat: Seat;
  readonly #client: SocketAddress;
  readonly #target: SocketAddress;
  readonly #acceptedAtMs: number;
  #wait: Wait | undefined;
  /** The dial or the tunnel request under way. */
  #attempt: { cancel(): void } | undefined;
  #record: ConnectionRecord | undefined;
  /** The destination's record when both pods are ours. */
  #arrival: ConnectionRecord | undefined;
  #splice: Splice | undefined;
  #retried = false;
  #ended = false;

  static accept(worker: WorkerContext, pod: LocalPod, socket: TcpSocket, seat: Seat): void {
    new OutboundConnection(worker, pod, socket, seat).#start();
  }

  private constructor(worker: WorkerContext, pod: LocalPod, socket: TcpSocket, seat: Seat) {
    this.#worker = worker;
    this.#pod = pod;
    this.#socket = socket;
    this.#seat = seat;
    this.#client = socket.remoteAddress;
    this.#target = socket.originalDestination() ?? socket.localAddress;
    this.#acceptedAtMs = worker.loop.nowMs;
    socket.owner = this;
  }

  #start(): void {
    if (isOwnListener(this.#target, this.#socket, this.#pod)) {
      this.#refuse(new AmbitError('LOOP', `call to proxy port ${this.#target.port} of the pod itself`));
      return;
    }
    if (isSelfTest(this.#target)) {
      // The agent's own question whether connections of this pod arrive here: they do.
      this.#ended = true;
      this.#seat.release();
      this.#release();
      return;
    }
    this.#route();
  }

  #route(): void {
    const source = this.#pod.findWorkload();
    if (source === undefined) {
      this.#waitFor(workloadKey(this.#pod.pod.uid));
      return;
    }
    const { state, routeSettings } = this.#worker;
    this.#follow(source, decideOutbound(state, source, this.#client.ip, this.#target, routeSettings, Math.random));
  }

  #follow(source: Workload, decision: OutboundDecision): void {
    switch (decision.kind) {
      case 'tunnel':
        this.#openTunnel(source, decision);
        return;
      case 'sameNode':
        this.#openSameNode(source, decision);
        return;
      case 'plain':
        this.#openPlain(source, decision);
        return;
      case 'refuse':
        this.#refuse(decision.error);
        return;
      default:
        unreachable(decision);
        return;
    }
  }

  #openTunnel(source: Workload, decision: TunnelDecision): void {
    const { identities, pool } = this.#worker;
    if (!identities.isReady(source.identity)) {
      this.#waitFor(identityKey(source.identity));
      return;
    }
    this.#open({
      ...this.#commonFacts(decision.service),
      path: 'hbone',
      destination: decision.dial,
      hboneAddress: decision.authority,
      source: { workload: source, identity: source.identity },
      target: { workload: decision.destination, identity: decision.destination.identity },
    });
    this.#attempt = pool.open(
      {
        sourceIdentity: source.identity,
        expectedIdentities: decision.expectedIdentities,
        dial: decision.dial,
        netns: this.#pod.netns,
        mark: PROXY_MARK,
        clientIp: this.#client.ip,
        tls: () => identities.client(source.identity),
        authority: decision.authority,
        headers: {
          baggage: formatBaggage(source),
          forwarded: formatForwarded(this.#client, decision.service?.hostname),
          traceparent: newTraceparent(),
        },
      },
      this,
    );
  }

  #openSameNode(source: Workload, decision: OutboundDecision & { readonly kind: 'sameNode' }): void {
    const target = this.#worker.pods.findByWorkload(decision.destination.uid);
    if (target === undefined) {
      this.#refuse(new AmbitError('UNKNOWN_WORKLOAD', 'the pod has just left this node'));
      return;
    }
    const from = addressOf(this.#pod, this.#client.ip, decision.address.ip);
    if (from === undefined || !holds(target, decision.address.ip)) {
      this.#refuse(new AmbitError('UNKNOWN_WORKLOAD', 'an address of the connection belongs to neither pod'));
      return;
    }
    const facts: RecordFacts = {
      ...this.#commonFacts(decision.service),
      path: 'same-node',
      destination: decision.address,
      hboneAddress: undefined,
      source: { workload: source, identity: source.identity },
      target: { workload: decision.destination, identity: decision.destination.identity },
    };
    this.#open(facts);
    const client = { ip: from, port: this.#client.port };
    const arrival = openSameNodeArrival(this.#worker, target, { ...facts, client }, this);
    if (arrival instanceof AmbitError) {
      this.cut(arrival);
      return;
    }
    this.#arrival = arrival;
    this.#wait = awaitVerdict(this.#worker, arrival, this);
  }

  onDenied(error: AmbitError): void {
    this.cut(error);
  }

  /** The policy of the other pod lets us in. */
  onAllowed(): void {
    if (this.#arrival === undefined) return;
    const { destination, pod, client } = this.#arrival.facts;
    this.#dial(destination, pod, client.ip);
  }

  #openPlain(source: Workload, decision: OutboundDecision & { readonly kind: 'plain' }): void {
    this.#open({
      ...this.#commonFacts(decision.service),
      path: 'plaintext',
      destination: decision.dial,
      hboneAddress: undefined,
      source: { workload: source, identity: undefined },
      target: { workload: decision.destination, identity: undefined },
    });
    this.#dial(decision.dial, this.#pod, undefined);
  }

  #dial(to: SocketAddress, pod: LocalPod, from: SocketAddress['ip'] | undefined): void {
    const options = { to, netns: pod.netns, mark: PROXY_MARK };
    this.#attempt = connectTcp(this.#worker.loop, from === undefined ? options : { ...options, from }, this);
  }

  #commonFacts(service: RecordFacts['service']) {
    return {
      pod: this.#pod,
      direction: 'outbound' as const,
      client: this.#client,
      originalDestination: this.#target,
      service,
    };
  }

  #open(facts: RecordFacts): void {
    this.#record = this.#worker.recorder.open(facts, this);
  }

  onConnected(upstream: TcpSocket): void {
    this.#attempt = undefined;
    this.#watch(spliceSockets(this.#worker.loop, this.#socket, upstream, (result) => this.#onSpliced(result)));
  }

  onConnectFailed(error: AmbitError): void {
    if (!this.#tryAnother(error)) this.cut(error);
  }

  onOpen(tunnel: Tunnel): void {
    this.#attempt = undefined;
    this.#watch(spliceTunnel(this.#worker.loop, this.#socket, tunnel, (result) => this.#onSpliced(result)));
  }

  onRefused(error: AmbitError, status?: number): void {
    if (status === DENIED_STATUS || !this.#tryAnother(error)) this.cut(error);
  }

  /**
   * Nothing of the client has been read yet, so that whoever could not be reached has missed nothing: another endpoint of
   * the service may serve it, once. The attempt that failed keeps a record of its own.
   */
  #tryAnother(error: AmbitError): boolean {
    const { recorder, routeSettings, state } = this.#worker;
    const source = this.#pod.findWorkload();
    const { service, target } = this.#record?.facts ?? {};
    const failed = target?.workload;
    if (this.#ended || this.#retried || !error.row.retry) return false;
    if (source === undefined || service === undefined || failed === undefined) return false;
    const decision = decideOutbound(state, source, this.#client.ip, this.#target, routeSettings, Math.random, failed);
    if (decision.kind === 'refuse' || decision.destination?.uid === failed.uid) return false;
    this.#retried = true;
    this.#attempt = undefined;
    recorder.retries++;
    this.#endRecords(error);
    this.#follow(source, decision);
    return true;
  }

  #watch(splice: Splice): void {
    if (this.#ended) return;
    this.#splice = splice;
    this.#record?.watch(splice, true);
    this.#arrival?.watch(splice, true);
  }

  #onSpliced(result: SpliceResult): void {
    this.#record?.watch(result, true);
    this.#arrival?.watch(result, true);
    this.#finish(result.error);
  }

  onAwaited(): void {
    this.#wait = undefined;
    if (this.#pod.gone) this.#refuse(new AmbitError('DRAINED', 'the pod was removed'));
    else if (!this.#ended) this.#route();
  }

  onGivenUp(): void {
    this.#wait = undefined;
    const { identities } = this.#worker;
    const source = this.#pod.findWorkload();
    if (source === undefined) this.#refuse(new AmbitError('UNKNOWN_WORKLOAD', 'the pod has not been announced'));
    else this.#refuse(identities.noCertificate(source.identity));
  }

  /** The application went away before anything was open. */
  onBroken(errno: number): void {
    this.cut(new AmbitError('CLIENT_GONE', 'the client closed before the connection was open', { errno }));
  }

  onReadable(): void {}

  onWritable(): void {}

  finish(reason: AmbitError): boolean {
    return this.#splice?.finish(reason) ?? false;
  }

  cut(error: AmbitError): void {
    if (this.#ended) return;
    if (this.#splice !== undefined) {
      this.#splice.abort(error);
      return;
    }
    if (this.#record === undefined) {
      this.#refuse(error);
      return;
    }
    this.#release();
    this.#finish(error);
  }

  /** Ends a connection that has no record yet. */
  #refuse(error: AmbitError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#seat.release();
    this.#release();
    this.#worker.recorder.refuse({
      source: this.#client,
      destination: this.#target,
      direction: 'outbound',
      error,
    });
  }

  #release(): void {
    this.#wait?.cancel();
    this.#attempt?.cancel();
    this.#attempt = undefined;
    this.#socket.abort();
  }

  #finish(error: AmbitError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#seat.release();
    this.#endRecords(error);
  }

  #endRecords(error: AmbitError | undefined): void {
    const { recorder } = this.#worker;
    if (this.#record !== undefined) recorder.end(this.#record, error);
    if (this.#arrival !== undefined) recorder.end(this.#arrival, error);
    this.#record = undefined;
    this.#arrival = undefined;
  }

  #waitFor(key: string): void {
    const { settings, waits } = this.#worker;
    this.#wait = waits.add(key, this, this.#acceptedAtMs + settings.readinessWaitMs);
  }
}

/** True for calls to the listeners of the pod itself: nothing may be carried from them to them. */
function isOwnListener(target: SocketAddress, socket: TcpSocket, pod: LocalPod): boolean {
  if (!PROXY_PORTS.has(target.port)) return false;
  if (isLoopback(target.ip) || target.ip === socket.localAddress.ip) return true;
  return pod.pod.ips.includes(target.ip) || formatSocketAddress(target) === formatSocketAddress(socket.localAddress);
}

/**
 * The address under which the other pod and its policy see a connection of `pod` to `to`: the client's, if the pod was
 * given it. A process may bind any address that it has put on an interface; on a network no answer to such an address
 * would come back, and so nobody may gain from one here.
 */
function addressOf(pod: LocalPod, client: IpAddress, to: IpAddress): IpAddress | undefined {
  if (holds(pod, client)) return client;
  return pod.pod.ips.find((ip) => isIpv6Address(ip) === isIpv6Address(to));
}

/** True when the pod was given the address; also when nobody knows its addresses. */
function holds({ pod }: LocalPod, ip: IpAddress): boolean {
  return pod.ips.length === 0 || pod.ips.includes(ip);
}
