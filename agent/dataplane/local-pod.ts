/**
 * A captured pod inside one worker: its namespace, its listeners, the records of its live connections, and the registry
 * record of its workload, looked up again whenever the state of the mesh moved on.
 */
import { formatSpiffeId, type SpiffeId } from '../../core/spiffe.ts';
import type { NetworkNamespace } from '../../reactor/netns.ts';
import type { TcpListener } from '../../reactor/tcp-listen.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Workload } from '../state/workload.ts';
import type { EnrolledPod } from './pod-capture.ts';
import type { WorkerSettings } from './worker-settings.ts';

export class LocalPod {
  readonly pod: EnrolledPod;
  readonly netns: NetworkNamespace;
  readonly listeners: TcpListener[] = [];
  /** True once the pod was removed; whatever still holds it must not start anything. */
  gone = false;
  /** True while the pod leaves the mesh: it still serves who comes, and nobody is led to it past the network. */
  leaving = false;
  readonly #state: MeshState;
  readonly #node: string;
  readonly #expectedIdentity: SpiffeId;
  #seenGeneration = -1;
  #workload: Workload | undefined;

  constructor(pod: EnrolledPod, netns: NetworkNamespace, state: MeshState, settings: WorkerSettings) {
    this.pod = pod;
    this.netns = netns;
    this.#state = state;
    this.#node = settings.node;
    this.#expectedIdentity = formatSpiffeId({ ...pod, trustDomain: settings.trustDomain });
  }

  /** The pod's current record, or undefined while the control plane has not announced it. */
  findWorkload(): Workload | undefined {
    if (this.#seenGeneration !== this.#state.generation) {
      this.#seenGeneration = this.#state.generation;
      const { namespace, name, serviceAccount } = this.pod;
      this.#workload = this.#state.findLocalWorkload({ namespace, name, serviceAccount, node: this.#node });
    }
    return this.#workload;
  }

  /** The identity the pod speaks with. */
  get identity(): SpiffeId {
    return this.findWorkload()?.identity ?? this.#expectedIdentity;
  }
}
