/**
 * The listeners of a pod in one worker, on three ports. All workers listen on the same ports (SO_REUSEPORT); the kernel
 * spreads connections over them. Opening is atomic: either every port listens or none.
 *
 * Sockets of a predecessor are gone on with instead of being opened anew, all of them, so that no connection in their
 * queues is lost; a worker may hold several for one port then.
 */
import { HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT } from '../../core/ports.ts';
import { adoptTcpListener, listenTcp } from '../../reactor/tcp-listen.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import { discardDescriptors } from '../../reactor/unix-socket.ts';
import type { Seat } from './connection-seats.ts';
import { HboneArrival } from './hbone-arrival.ts';
import type { LocalPod } from './local-pod.ts';
import type { Direction, InheritedListener, LentListener } from './messages.ts';
import { OutboundConnection } from './outbound.ts';
import { PlaintextConnection } from './plaintext.ts';
import type { WorkerContext } from './worker-context.ts';

const PORTS = [HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT];

/** Throws SYSTEM_CALL (a port that is taken) or NETNS. Owns the inherited descriptors, also when it throws. */
export function openListeners(
  worker: WorkerContext,
  pod: LocalPod,
  inherited: readonly InheritedListener[] = [],
): void {
  const left = [...inherited];
  const listenOn = (port: number, onAccept: (socket: TcpSocket) => void): void => {
    const descriptors = takeOf(left, port);
    if (descriptors.length === 0) listen(worker, pod, port, onAccept);
    for (const descriptor of descriptors) adopt(worker, pod, descriptor, onAccept);
  };
  try {
    listenOn(HBONE_PORT, (socket) => HboneArrival.accept(worker, pod, socket));
    listenOn(INBOUND_PLAINTEXT_PORT, seated(worker, pod, 'inbound', PlaintextConnection.accept));
    listenOn(OUTBOUND_PORT, seated(worker, pod, 'outbound', OutboundConnection.accept));
    if (worker.server.crowded) holdTunnels([pod], true);
  } catch (error) {
    closeListeners(pod);
    throw error;
  } finally {
    discardDescriptors(left.map(({ descriptor }) => descriptor));
  }
}

/** True when every port of the pod is listened on. */
export function listensEverywhere(pod: LocalPod): boolean {
  return PORTS.every((port) => pod.listeners.some(({ address }) => address.port === port));
}

/** Stops taking connections and tells the sockets; they stay open here. */
export function lendListeners(pods: Iterable<LocalPod>): LentListener[] {
  return Array.from(pods).flatMap((pod) =>
    pod.listeners.map((listener) => {
      listener.pause();
      return { uid: pod.pod.uid, port: listener.address.port, descriptor: listener.descriptor };
    }),
  );
}

/** Takes connections again. */
export function keepListeners(worker: WorkerContext): void {
  for (const pod of worker.pods.all()) for (const listener of pod.listeners) listener.resume();
  if (worker.server.crowded) holdTunnels(worker.pods.all(), true);
}

/** Leaves further tunnel connections in the queue of the kernel, or takes them again. */
export function holdTunnels(pods: Iterable<LocalPod>, hold: boolean): void {
  for (const pod of pods) {
    for (const listener of pod.listeners) {
      if (listener.address.port !== HBONE_PORT) continue;
      if (hold) listener.pause();
      else listener.resume();
    }
  }
}

export function closeListeners(pod: LocalPod): void {
  for (const listener of pod.listeners.splice(0)) listener.close();
}

type Accept = (worker: WorkerContext, pod: LocalPod, socket: TcpSocket, seat: Seat) => void;

/** Refuses connections beyond the pod's fair share; the others keep their seat until they end. */
function seated(worker: WorkerContext, pod: LocalPod, direction: Direction, accept: Accept) {
  return (socket: TcpSocket): void => {
    const seat = worker.seats.take(pod);
    if (seat === undefined) {
      const { error, logged } = worker.seats.refusal(pod);
      const destination = socket.originalDestination() ?? socket.localAddress;
      worker.recorder.refuse({ source: socket.remoteAddress, destination, direction, error }, logged);
      socket.abort();
      return;
    }
    try {
      accept(worker, pod, socket, seat);
    } catch (error) {
      seat.release();
      throw error;
    }
  };
}

function listen(worker: WorkerContext, pod: LocalPod, port: number, onAccept: (socket: TcpSocket) => void): void {
  // Tunnels are probed by HTTP/2 PING, applications' connections by TCP.
  const keepAlive = port !== HBONE_PORT && worker.settings.keepaliveEnabled;
  const options = { port, netns: pod.netns, reusePort: true, keepAlive };
  pod.listeners.push(listenTcp(worker.loop, options, abortingOnDefect(onAccept)));
}

function adopt(worker: WorkerContext, pod: LocalPod, descriptor: number, onAccept: (socket: TcpSocket) => void): void {
  pod.listeners.push(adoptTcpListener(worker.loop, descriptor, abortingOnDefect(onAccept)));
}

function abortingOnDefect(onAccept: (socket: TcpSocket) => void) {
  return (socket: TcpSocket): void => {
    try {
      onAccept(socket);
    } catch (error) {
      socket.abort();
      throw error;
    }
  };
}

/** Takes the descriptors of a port out of the list. */
function takeOf(listeners: InheritedListener[], port: number): number[] {
  const taken: number[] = [];
  for (let index = listeners.length - 1; index >= 0; index--) {
    const listener = listeners[index];
    if (listener?.port !== port) continue;
    taken.push(listener.descriptor);
    listeners.splice(index, 1);
  }
  return taken;
}
