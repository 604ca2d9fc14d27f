/**
 * A connection to a port of a pod as if from inside the pod, through the API server and the kubelet (`pods/portforward`).
 *
 * The `v4.channel.k8s.io` protocol over one WebSocket: the first byte of a message is its channel, 0 for data and 1 for
 * errors; the first message of each channel repeats the port number.
 */
import { Duplex } from 'node:stream';
import { KubernetesApiError } from './api-error.ts';
import type { KubeClient } from './client.ts';
import { objectPath, RESOURCES } from './resource.ts';
import { WebSocketClient } from './web-socket.ts';

export const PORT_FORWARD_PROTOCOL = 'v4.channel.k8s.io';

export interface PodPort {
  readonly namespace: string;
  readonly pod: string;
  readonly port: number;
}

const DATA = 0;
const ERROR = 1;
/** Bytes per message; a server may refuse larger ones. */
const MAX_CHUNK = 32 * 1024;

/**
 * Resolves with the connection; the port may still turn out closed, which ends it with an error. Rejects with a
 * KubernetesApiError. The caller owns the stream.
 */
export async function openPodPort(client: KubeClient, target: PodPort): Promise<Duplex> {
  const path = objectPath(RESOURCES.Pod, target.namespace, target.pod, 'portforward');
  const query = { ports: String(target.port) };
  const { socket, head } = await client.upgrade({ method: 'GET', path, query }, PORT_FORWARD_PROTOCOL);
  return new PortStream(`port ${target.port} of pod ${target.namespace}/${target.pod}`, socket, head);
}

class PortStream extends Duplex {
  readonly #what: string;
  readonly #socket: WebSocketClient;
  /** Channels whose port number has come. */
  readonly #greeted = new Set<number>();

  constructor(what: string, socket: Duplex, head: Buffer) {
    super();
    this.#what = what;
    this.#socket = new WebSocketClient(socket, head, {
      message: (data) => this.#take(data),
      closed: (reason) => {
        if (reason === '') this.push(null);
        else this.destroy(failure(this.#what, reason));
      },
    });
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    let flowing = true;
    for (let start = 0; start < chunk.length; start += MAX_CHUNK) {
      const part = chunk.subarray(start, start + MAX_CHUNK);
      flowing = this.#socket.send(Buffer.concat([Buffer.from([DATA]), part]));
    }
    if (flowing) done();
    else this.#socket.drained(done);
  }

  /** The protocol has no half-close: the peer is told when both directions end. */
  override _final(done: () => void): void {
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.close();
    done(error);
  }

  #take(data: Buffer): void {
    const channel = data[0];
    if (channel !== DATA && channel !== ERROR) return;
    if (!this.#greeted.has(channel)) {
      this.#greeted.add(channel);
      return;
    }
    if (channel === ERROR) this.destroy(failure(this.#what, data.subarray(1).toString('utf8')));
    else if (!this.push(data.subarray(1))) this.#socket.pause();
  }
}

function failure(what: string, reason: string): KubernetesApiError {
  return new KubernetesApiError(`${what}: ${reason.slice(0, 500)}`, { status: 0, reason: 'Unreachable' });
}
