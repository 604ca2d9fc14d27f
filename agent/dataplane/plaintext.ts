/**
 * The plaintext path: anything that reaches a local pod on another port than 15008, redirected to port 15006.
 *
 *     accept -> original destination -> guard -> local workload -> register -> authorise without identity -> dial the
 *     application with the client's address -> splice -> record
 *
 * Whether plaintext is welcome is policy (STRICT is a DENY policy); there is nothing special about it here.
 */
import { AmbitError } from '../../core/errors.ts';
import type { SocketAddress } from '../../core/ip.ts';
import { PROXY_MARK, PROXY_PORTS } from '../../core/ports.ts';
import type { Splice, SpliceResult } from '../../hbone/splice.ts';
import { spliceSockets } from '../../hbone/splice-sockets.ts';
import type { ChannelOwner } from '../../reactor/byte-channel.ts';
import { type ConnectAttempt, type ConnectHandler, connectTcp } from '../../reactor/tcp-connect.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import { guessInboundService } from '../route/inbound.ts';
import type { Workload } from '../state/workload.ts';
import type { ConnectionRecord, Cuttable } from './connection-record.ts';
import type { Seat } from './connection-seats.ts';
import type { LocalPod } from './local-pod.ts';
import { awaitVerdict, type VerdictHandler } from './verdict.ts';
import { type Wait, type Waiting, workloadKey } from './wait-queue.ts';
import type { WorkerContext } from './worker-context.ts';

export class PlaintextConnection implements ChannelOwner, ConnectHandler, Waiting, VerdictHandler, Cuttable {
  readonly #worker: WorkerContext;
  readonly #pod: LocalPod;
  readonly #socket: TcpSocket;
  readonly #seat: Seat;
  readonly #client: SocketAddress;
  readonly #target: SocketAddress;
  #wait: Wait | undefined;
  #attempt: ConnectAttempt | undefined;
  #record: ConnectionRecord | undefined;
  #splice: Splice | undefined;
  #ended = false;

  static accept(worker: WorkerContext, pod: LocalPod, socket: TcpSocket, seat: Seat): void {
    new PlaintextConnection(worker, pod, socket, seat).#start();
  }

  private constructor(worker: WorkerContext, pod: LocalPod, socket: TcpSocket, seat: Seat) {
    this.#worker = worker;
    this.#pod = pod;
    this.#socket = socket;
    this.#seat = seat;
    this.#client = socket.remoteAddress;
    this.#target = socket.originalDestination() ?? socket.localAddress;
    socket.owner = this;
  }

  #start(): void {
    if (PROXY_PORTS.has(this.#target.port)) {
      this.cut(new AmbitError('LOOP', `call to proxy port ${this.#target.port} of the pod`));
      return;
    }
    this.#route();
  }

  #route(): void {
    const local = this.#pod.findWorkload();
    if (local === undefined) {
      this.#wait = this.#worker.waits.add(workloadKey(this.#pod.pod.uid), this);
      return;
    }
    this.#register(local);
  }

  #register(local: Workload): void {
    const { recorder, state } = this.#worker;
    const target = this.#target;
    this.#record = recorder.open(
      {
        pod: this.#pod,
        direction: 'inbound',
        path: 'plaintext',
        client: this.#client,
        destination: target,
        originalDestination: target,
        hboneAddress: undefined,
        source: { workload: state.findWorkloadByIp(local.network, this.#client.ip), identity: undefined },
        target: { workload: local, identity: undefined },
        service: guessInboundService(state, local, target.port),
      },
      this,
    );
    this.#record.authorization = {
      source: undefined,
      sourceIp: this.#client.ip,
      destinationIp: target.ip,
      destinationPort: target.port,
    };
    this.#wait = awaitVerdict(this.#worker, this.#record, this);
  }

  onDenied(error: AmbitError): void {
    this.cut(error);
  }

  onAllowed(): void {
    const options = { to: this.#target, from: this.#client.ip, netns: this.#pod.netns, mark: PROXY_MARK };
    this.#attempt = connectTcp(this.#worker.loop, options, this);
  }

  onConnected(application: TcpSocket): void {
    this.#attempt = undefined;
    const splice = spliceSockets(this.#worker.loop, this.#socket, application, (result) => this.#onSpliced(result));
    if (this.#ended) return;
    this.#splice = splice;
    this.#record?.watch(splice, true);
  }

  onConnectFailed(error: AmbitError): void {
    this.#attempt = undefined;
    this.cut(error);
  }

  onAwaited(): void {
    this.#wait = undefined;
    if (this.#pod.gone) this.cut(new AmbitError('DRAINED', 'the pod was removed'));
    else if (!this.#ended) this.#route();
  }

  onGivenUp(): void {
    this.#wait = undefined;
    this.cut(new AmbitError('UNKNOWN_WORKLOAD', 'the pod has not been announced'));
  }

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
    this.#wait?.cancel();
    this.#attempt?.cancel();
    this.#socket.abort();
    this.#finish(error);
  }

  #onSpliced(result: SpliceResult): void {
    this.#record?.watch(result, true);
    this.#finish(result.error);
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
    recorder.refuse({ source: this.#client, destination: this.#target, direction: 'inbound', error });
  }
}
