import type { IpAddress } from '../../core/ip.ts';
import type { Policy } from './policy.ts';
import type { ApplyResult, ResourceUpdate } from './resource.ts';
import type { Service } from './service.ts';
import type { Workload } from './workload.ts';

/** Names one pod of a node, as enrolment knows it. */
export interface LocalWorkloadKey {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly node: string;
}

export class MeshState {
  /** Grows with every `apply` that changed anything. */
  generation = 0;
  apply(_update: ResourceUpdate): ApplyResult {
    throw new Error('skeleton');
  }
  findWorkloadByIp(_network: string, _ip: IpAddress): Workload | undefined {
    return undefined;
  }
  findWorkloadByUid(_uid: string): Workload | undefined {
    return undefined;
  }
  findLocalWorkload(_key: LocalWorkloadKey): Workload | undefined {
    return undefined;
  }
  findService(_namespace: string, _hostname: string): Service | undefined {
    return undefined;
  }
  findServiceByVip(_network: string, _ip: IpAddress, _clientNamespace?: string): Service | undefined {
    return undefined;
  }
  workloads(): IterableIterator<Workload> {
    throw new Error('skeleton');
  }
  services(): IterableIterator<Service> {
    throw new Error('skeleton');
  }
  policies(): IterableIterator<Policy> {
    throw new Error('skeleton');
  }
  policiesFor(_workload: Workload): Policy[] {
    return [];
  }
}
