/**
 * A connection that arrived at port 15008: handed to the HBONE server as soon as the pod's certificate is there. Until
 * then it waits, for a bounded time.
 */

import { AmbitError } from '../../core/errors.ts';
import type { ChannelOwner } from '../../reactor/byte-channel.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import type { LocalPod } from './local-pod.ts';
import { identityKey, type Wait, type Waiting } from './wait-queue.ts';
import type { WorkerContext } from './worker-context.ts';

export class HboneArrival implements ChannelOwner, Waiting {
  readonly #worker: WorkerContext;
  readonly #pod: LocalPod;
  readonly #socket: TcpSocket;
  readonly #deadlineMs: number;
  #wait: Wait | undefined;

  static accept(worker: WorkerContext, pod: LocalPod, socket: TcpSocket): void {
    if (worker.identities.isReady(pod.identity)) worker.server.accept(socket, pod);
    else new HboneArrival(worker, pod, socket).#waitForCertificate();
  }

  private constructor(worker: WorkerContext, pod: LocalPod, socket: TcpSocket) {
    this.#worker = worker;
    this.#pod = pod;
    this.#socket = socket;
    this.#deadlineMs = worker.loop.nowMs + worker.settings.readinessWaitMs;
    socket.owner = this;
  }

  #waitForCertificate(): void {
    this.#wait = this.#worker.waits.add(identityKey(this.#pod.identity), this, this.#deadlineMs);
  }

  onAwaited(): void {
    this.#wait = undefined;
    if (this.#pod.gone) {
      this.#refuse(new AmbitError('DRAINED', 'the pod was removed'));
      return;
    }
    if (this.#worker.identities.isReady(this.#pod.identity)) this.#worker.server.accept(this.#socket, this.#pod);
    else this.#waitForCertificate();
  }

  onGivenUp(): void {
    this.#wait = undefined;
    this.#refuse(this.#worker.identities.noCertificate(this.#pod.identity));
  }

  onBroken(errno: number): void {
    this.#wait?.cancel();
    this.#refuse(new AmbitError('CLIENT_GONE', 'the peer closed before the handshake', { errno }));
  }

  onReadable(): void {}

  onWritable(): void {}

  #refuse(error: AmbitError): void {
    const { remoteAddress, localAddress } = this.#socket;
    this.#socket.abort();
    this.#worker.recorder.refuse({ source: remoteAddress, destination: localAddress, direction: 'inbound', error });
  }
}
