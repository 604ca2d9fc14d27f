/** The captured pods of one worker, by uid and by the uid of their workload in the registry. */
import type { MeshState } from '../state/mesh-state.ts';
import type { LocalPod } from './local-pod.ts';

export class PodTable {
  readonly #state: MeshState;
  readonly #byUid = new Map<string, LocalPod>();
  #byWorkload = new Map<string, LocalPod>();
  #seenGeneration = -1;

  constructor(state: MeshState) {
    this.#state = state;
  }

  get size(): number {
    return this.#byUid.size;
  }

  find(uid: string): LocalPod | undefined {
    return this.#byUid.get(uid);
  }

  /** The pod behind `Workload.uid`, when it is one of this node and stays in the mesh. */
  findByWorkload(workloadUid: string): LocalPod | undefined {
    if (this.#seenGeneration !== this.#state.generation) this.#index();
    return this.#byWorkload.get(workloadUid);
  }

  put(pod: LocalPod): void {
    this.#byUid.set(pod.pod.uid, pod);
    this.#seenGeneration = -1;
  }

  remove(uid: string): void {
    this.#byUid.delete(uid);
    this.#seenGeneration = -1;
  }

  setLeaving(uid: string, leaving: boolean): void {
    const pod = this.#byUid.get(uid);
    if (pod !== undefined) pod.leaving = leaving;
    this.#seenGeneration = -1;
  }

  all(): IterableIterator<LocalPod> {
    return this.#byUid.values();
  }

  #index(): void {
    this.#seenGeneration = this.#state.generation;
    this.#byWorkload = new Map();
    for (const pod of this.#byUid.values()) {
      const workload = pod.leaving ? undefined : pod.findWorkload();
      if (workload !== undefined) this.#byWorkload.set(workload.uid, pod);
    }
  }
}
