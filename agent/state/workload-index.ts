/**
 * The workloads by everything they are looked up by: uid, address in a network, host name, and name on a node. Several
 * workloads may claim one address; pods come before other entries, HBONE before plaintext, healthy ones before those that
 * are going (whose address may have been given to the next pod already), and when the first goes the next takes its place.
 */
import type { IpAddress } from '../../core/ip.ts';
import { MultiMap } from './multi-map.ts';
import { serviceKey } from './service.ts';
import type { Workload } from './workload.ts';

/** Names one pod the way enrolment knows it. An empty `node` means any. */
export interface LocalWorkloadKey {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly node: string;
}

export class WorkloadIndex {
  readonly #byUid = new Map<string, Workload>();
  readonly #byAddress = new Map<string, MultiMap<Workload>>();
  readonly #byNode = new Map<string, MultiMap<Workload>>();
  readonly #byHostname = new MultiMap<Workload>(byUid);

  get size(): number {
    return this.#byUid.size;
  }

  values(): IterableIterator<Workload> {
    return this.#byUid.values();
  }

  findByUid(uid: string): Workload | undefined {
    return this.#byUid.get(uid);
  }

  findByAddress(network: string, ip: IpAddress): Workload | undefined {
    return this.#byAddress.get(network)?.first(ip);
  }

  findByHostname(namespace: string, hostname: string): Workload | undefined {
    return this.#byHostname.first(serviceKey(namespace, hostname));
  }

  findLocal(key: LocalWorkloadKey): Workload | undefined {
    const fits = (workload: Workload) =>
      workload.namespace === key.namespace && workload.serviceAccount === key.serviceAccount;
    if (key.node !== '') return this.#byNode.get(key.node)?.find(key.name, fits);
    for (const workloads of this.#byNode.values()) {
      const found = workloads.find(key.name, fits);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** The uid must not be taken. */
  add(workload: Workload): void {
    this.#byUid.set(workload.uid, workload);
    if (!workload.hostNetwork)
      for (const ip of workload.addresses) groupOf(this.#byAddress, workload.network, byPreference).add(ip, workload);
    groupOf(this.#byNode, workload.node, byUid).add(workload.name, workload);
    if (workload.hostname !== '') this.#byHostname.add(serviceKey(workload.namespace, workload.hostname), workload);
  }

  remove(workload: Workload): void {
    this.#byUid.delete(workload.uid);
    for (const ip of workload.addresses) removeFrom(this.#byAddress, workload.network, ip, workload);
    removeFrom(this.#byNode, workload.node, workload.name, workload);
    if (workload.hostname !== '') this.#byHostname.remove(serviceKey(workload.namespace, workload.hostname), workload);
  }
}

type Groups = Map<string, MultiMap<Workload>>;

function groupOf(groups: Groups, group: string, compare: (a: Workload, b: Workload) => number): MultiMap<Workload> {
  const known = groups.get(group);
  if (known !== undefined) return known;
  const created = new MultiMap<Workload>(compare);
  groups.set(group, created);
  return created;
}

function removeFrom(groups: Groups, group: string, key: string, workload: Workload): void {
  const members = groups.get(group);
  members?.remove(key, workload);
  if (members?.size === 0) groups.delete(group);
}

function byUid(a: Workload, b: Workload): number {
  return a.uid < b.uid ? -1 : 1;
}

function byPreference(a: Workload, b: Workload): number {
  return preference(b) - preference(a) || byUid(a, b);
}

function preference(workload: Workload): number {
  const { uid, tunnelProtocol, healthy } = workload;
  return (uid.includes('//Pod/') ? 4 : 0) + (tunnelProtocol === 'HBONE' ? 2 : 0) + (healthy ? 1 : 0);
}
