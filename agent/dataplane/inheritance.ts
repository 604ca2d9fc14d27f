/**
 * Listening sockets that came from a predecessor and wait for their pod to be taken up. A socket that two processes hold
 * goes on listening when one of them lets it go: between two agents no connection is refused.
 */
import { discardDescriptors } from '../../reactor/unix-socket.ts';
import type { InheritedListener, LentListener } from './messages.ts';

export class Inheritance {
  readonly #byPod = new Map<string, InheritedListener[]>();

  /** Owns the descriptors from now on. */
  put(listeners: readonly LentListener[]): void {
    for (const { uid, port, descriptor } of listeners) {
      const known = this.#byPod.get(uid) ?? [];
      known.push({ port, descriptor });
      this.#byPod.set(uid, known);
    }
  }

  /** The sockets of a pod, dealt out to `workers`; each port's as evenly as their number allows. The caller's now. */
  take(uid: string, workers: number): InheritedListener[][] {
    const shares: InheritedListener[][] = Array.from({ length: workers }, () => []);
    const dealt = new Map<number, number>();
    for (const listener of this.#byPod.get(uid) ?? []) {
      const turn = dealt.get(listener.port) ?? 0;
      dealt.set(listener.port, turn + 1);
      shares[turn % workers]?.push(listener);
    }
    this.#byPod.delete(uid);
    return shares;
  }

  /** Closes what nobody took. */
  end(): void {
    for (const listeners of this.#byPod.values()) discardDescriptors(listeners.map(({ descriptor }) => descriptor));
    this.#byPod.clear();
  }
}
