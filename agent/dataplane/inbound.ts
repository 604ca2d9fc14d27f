/**
 * The inbound path: a CONNECT on a tunnel that ended at port 15008 of a local pod. TLS and the peer's identity are done
 * when a request arrives here (hbone/server.ts).
 *
 *     CONNECT -> local workload -> decide (authority is the pod's) -> register -> authorise -> dial the application with the
 *     client's address -> 200 -> splice -> record
 *
 * 200 is sent only when the application has accepted. Registering before authorising means that a policy change in
 * between finds the connection.
 */
import { AmbitError } from '../../core/errors.ts';
import type { SocketAddress } from '../../core/ip.ts';
import { PROXY_MARK, PROXY_PORTS } from '../../core/ports.ts';
import type { TunnelRequest } from '../../hbone/server.ts';
import { type Splice, type SpliceResult, spliceTunnel } from '../../hbone/splice.ts';
import { type ConnectAttempt, type ConnectHandler, connectTcp } from '../../reactor/tcp-connect.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import { decideInbound, type InboundDecision } from '../route/inbound.ts';
import type { Workload } from '../state/workload.ts';
import { formatBaggage, parseBaggage, parseForwardedHost } from './baggage.ts';
import type { ConnectionRecord, Cuttable } from './connection-record.ts';
import type { Seat } from './connection-seats.ts';
import type { LocalPod } from './local-pod.ts';
import { writeProxyHeader } from './proxy-protocol.ts';
import { awaitVerdict, type VerdictHandler } from './verdict.ts';
import { type Wait, type Waiting, workloadKey } from './wait-queue.ts';
import type { WorkerContext } from './worker-context.ts';

type DialDecision = InboundDecision & { readonly kind: 'dial' };

export class InboundConnection implements ConnectHandler, Waiting, VerdictHandler, Cuttable {
  readonly #worker: WorkerContext;
  readonly #request: TunnelRequest<LocalPod>;
  readonly #seat: Seat;
  readonly #pod: LocalPod;
  #wait: Wait | undefined;
  #attempt: ConnectAttempt | undefined;
  #record: ConnectionRecord | undefined;
  #decision: DialDecision | undefined;
  #splice: Splice | undefined;
  #ended = false;

  static accept(worker: WorkerContext, request: TunnelRequest<LocalPod>): void {
    const seat = worker.seats.take(request.tag);
    if (seat === undefined) {
      const { error, logged } = worker.seats.refusal(request.tag);
      const { remote, local } = request;
      request.refuse(503, error);
      worker.recorder.refuse({ source: remote, destination: local, direction: 'inbound', error }, logged);
      return;
    }
    try {
      const connection = new InboundConnection(worker, request, seat);
      request.onAbandoned = () => connection.#onAbandoned();
      connection.#route();
    } catch (error) {
      seat.release();
      throw error;
    }
  }

  private constructor(worker: WorkerContext, request: TunnelRequest<LocalPod>, seat: Seat) {
    this.#worker = worker;
    this.#request = request;
    this.#seat = seat;
    this.#pod = request.tag;
  }

  #route(): void {
    const local = this.#pod.findWorkload();
    if (local === undefined) {
      this.#wait = this.#worker.waits.add(workloadKey(this.#pod.pod.uid), this);
      return;
    }
    const { authority, headers, local: dialed } = this.#request;
    const host = parseForwardedHost(headers.find('forwarded'));
    const decision = decideInbound(this.#worker.state, local, dialed.ip, authority, host);
    if (decision.kind === 'refuse') {
      this.#refuse(decision.status, decision.error);
      return;
    }
    if (PROXY_PORTS.has(decision.address.port)) {
      this.#refuse(503, new AmbitError('LOOP', `call to proxy port ${decision.address.port} of the pod`));
      return;
    }
    this.#register(local, decision);
  }

  #register(local: Workload, decision: DialDecision): void {
    const { recorder, state } = this.#worker;
    const { peer, remote, local: dialed } = this.#request;
    const source = state.findWorkloadByIp(local.network, remote.ip);
    this.#decision = decision;
    this.#record = recorder.open(
      {
        pod: this.#pod,
        direction: 'inbound',
        path: 'hbone',
        client: remote,
        destination: dialed,
        originalDestination: decision.address,
        hboneAddress: this.#request.authority,
        source: { workload: source, baggage: this.#sourceBaggage(source), identity: peer.identity },
        target: { workload: local, identity: local.identity },
        service: decision.service,
      },
      this,
    );
    this.#record.authorization = {
      source: peer.identity,
      sourceIp: remote.ip,
      destinationIp: decision.address.ip,
      destinationPort: decision.address.port,
    };
    this.#wait = awaitVerdict(this.#worker, this.#record, this);
  }

  onDenied(error: AmbitError): void {
    this.#refuse(401, error);
  }

  onAllowed(): void {
    const to = this.#decision?.address;
    if (to === undefined) return;
    const options = { to, from: this.#request.remote.ip, netns: this.#pod.netns, mark: PROXY_MARK };
    this.#attempt = connectTcp(this.#worker.loop, options, this);
  }

  #sourceBaggage(source: Workload | undefined) {
    return source === undefined ? parseBaggage(this.#request.headers.findAll('baggage')) : undefined;
  }

  onConnected(socket: TcpSocket): void {
    this.#attempt = undefined;
    const { proxyDestination } = this.#decision ?? {};
    if (proxyDestination !== undefined && !this.#announce(socket, proxyDestination)) return;
    const local = this.#pod.findWorkload();
    const tunnel = this.#request.accept(local === undefined ? [] : [['baggage', formatBaggage(local)]]);
    const splice = spliceTunnel(this.#worker.loop, socket, tunnel, (result) => this.#onSpliced(result));
    if (this.#ended) return;
    this.#splice = splice;
    this.#record?.watch(splice, false);
  }

  /** PROXY protocol for applications that asked for it; false when the application is gone already. */
  #announce(socket: TcpSocket, destination: SocketAddress): boolean {
    const error = writeProxyHeader(socket, this.#request.remote, destination, this.#request.peer.identity);
    if (error === undefined) return true;
    socket.abort();
    this.#refuse(503, error);
    return false;
  }

  onConnectFailed(error: AmbitError): void {
    this.#attempt = undefined;
    this.#refuse(503, error);
  }

  onAwaited(): void {
    this.#wait = undefined;
    if (this.#pod.gone) this.#refuse(503, new AmbitError('DRAINED', 'the pod was removed'));
    else if (!this.#ended) this.#route();
  }

  onGivenUp(): void {
    this.#wait = undefined;
    this.#refuse(503, new AmbitError('UNKNOWN_WORKLOAD', 'the pod has not been announced'));
  }

  finish(reason: AmbitError): boolean {
    return this.#splice?.finish(reason) ?? false;
  }

  cut(error: AmbitError): void {
    if (this.#splice !== undefined) this.#splice.abort(error);
    else this.#refuse(error.row.httpStatus ?? (error.row.flag === 'DENY' ? 401 : 503), error);
  }

  #onAbandoned(): void {
    if (this.#ended) return;
    const error = new AmbitError('CLIENT_GONE', 'the client closed before the connection was open');
    this.#release();
    this.#finish(error);
  }

  #onSpliced(result: SpliceResult): void {
    this.#record?.watch(result, false);
    this.#finish(result.error);
  }

  #refuse(status: 400 | 401 | 503, error: AmbitError): void {
    if (this.#ended) return;
    this.#request.onAbandoned = undefined;
    this.#release();
    if (!this.#request.abandoned) this.#request.refuse(status, error);
    this.#finish(error);
  }

  #release(): void {
    this.#wait?.cancel();
    this.#attempt?.cancel();
    this.#attempt = undefined;
  }

  #finish(error: AmbitError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#seat.release();
    const { recorder } = this.#worker;
    if (this.#record !== undefined) {
      recorder.end(this.#record, error);
      return;
    }
    if (error === undefined) return;
    const { remote, local } = this.#request;
    recorder.refuse({ source: remote, destination: local, direction: 'inbound', error });
  }
}
