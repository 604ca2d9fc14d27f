/**
 * The three listeners of a pod in one worker. All workers listen on the same ports (SO_REUSEPORT); the kernel spreads
 * connections over them. Opening is atomic: either all three listen or none.
 */
import { HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT } from '../../core/ports.ts';
import { listenTcp } from '../../reactor/tcp-listen.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import type { Seat } from './connection-seats.ts';
import { HboneArrival } from './hbone-arrival.ts';
import type { LocalPod } from './local-pod.ts';
import type { Direction } from './messages.ts';
import { OutboundConnection } from './outbound.ts';
import { PlaintextConnection } from './plaintext.ts';
import type { WorkerContext } from './worker-context.ts';

/** Throws SYSTEM_CALL (a port that is taken) or NETNS. */
export function openListeners(worker: WorkerContext, pod: LocalPod): void {
  try {
    listen(worker, pod, HBONE_PORT, (socket) => HboneArrival.accept(worker, pod, socket));
    listen(worker, pod, INBOUND_PLAINTEXT_PORT, seated(worker, pod, 'inbound', PlaintextConnection.accept));
    listen(worker, pod, OUTBOUND_PORT, seated(worker, pod, 'outbound', OutboundConnection.accept));
    if (worker.server.crowded) holdTunnels([pod], true);
  } catch (error) {
    closeListeners(pod);
    throw error;
  }
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
  const accept = (socket: TcpSocket): void => {
    try {
      onAccept(socket);
    } catch (error) {
      socket.abort();
      throw error;
    }
  };
  pod.listeners.push(listenTcp(worker.loop, { port, netns: pod.netns, reusePort: true, keepAlive }, accept));
}
