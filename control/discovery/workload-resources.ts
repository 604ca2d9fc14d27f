/** Workloads of every source as resources: pods, WorkloadEntries, endpoints of slices and of ServiceEntries. */
import type { Workload } from '../../api/gen/istio/workload/workload_pb.js';
import type { Pod } from '../objects/pod.ts';
import type { Service } from '../objects/service.ts';
import type { ServiceEntry } from '../objects/service-entry.ts';
import type { Conditions } from './conditions.ts';
import { buildSliceEndpoints, servicePorts } from './endpoint-slice.ts';
import type { HostIndex } from './host-index.ts';
import type { EndpointService } from './membership.ts';
import type { MeshView } from './mesh-view.ts';
import { buildNetworkGateway } from './network-gateway.ts';
import type { PolicyResources } from './policy-resources.ts';
import { ADDRESS_TYPE, type ResourceUpdate, workloadResource } from './resource.ts';
import type { SelectorIndex } from './selector-index.ts';
import { endpointService } from './service.ts';
import { buildServiceEntryWorkloads, entryEndpointService } from './service-entry.ts';
import type { SliceIndex } from './slice-index.ts';
import { podUid, workloadEntryUid } from './uid.ts';
import { GATEWAY_NAME_LABEL } from './waypoint.ts';
import { bindWaypoint, type WaypointBinding, waypointAddress } from './waypoint-binding.ts';
import type { WaypointPolicies } from './waypoint-policies.ts';
import { buildWorkload } from './workload.ts';
import { buildWorkloadEntry, endpointLabels } from './workload-entry.ts';

/** A service that finds endpoints by their labels. */
export type Member =
  | { readonly kind: 'service'; readonly selector: ReadonlyMap<string, string>; readonly service: EndpointService }
  | { readonly kind: 'entry'; readonly selector: ReadonlyMap<string, string>; readonly entry: string };

export interface WorkloadIndexes {
  readonly members: SelectorIndex<Member>;
  readonly hosts: HostIndex;
  readonly slices: SliceIndex;
  readonly policies: PolicyResources;
  readonly waypoints: WaypointPolicies;
}

export class WorkloadResources {
  readonly #view: MeshView;
  readonly #indexes: WorkloadIndexes;
  readonly #conditions: Conditions;
  /** Names of the workloads that came from each slice, ServiceEntry and network, by `<kind>/<namespace>/<name>`. */
  readonly #announced = new Map<string, ReadonlySet<string>>();

  constructor(view: MeshView, indexes: WorkloadIndexes, conditions: Conditions) {
    this.#view = view;
    this.#indexes = indexes;
    this.#conditions = conditions;
  }

  buildPod(namespace: string, name: string): ResourceUpdate {
    const pod = this.#view.store.find('Pod', namespace, name);
    const uid = podUid(this.#view.settings.clusterId, namespace, name);
    return announce(uid, pod && this.#workloadOf(pod));
  }

  /** A WorkloadEntry, with what is said of it. */
  buildEntry(namespace: string, name: string): ResourceUpdate {
    const entry = this.#view.store.find('WorkloadEntry', namespace, name);
    const { settings } = this.#view;
    const key = `WorkloadEntry/${namespace}/${name}`;
    const uid = workloadEntryUid(settings.clusterId, namespace, name);
    if (entry === undefined) {
      this.#conditions.set(key, []);
      return announce(uid, undefined);
    }
    const labels = endpointLabels(entry.meta, entry);
    const binding = bindWaypoint(entry.meta, 'workload', this.#view);
    this.#conditions.set(key, [binding.condition]);
    const services = this.#selectedBy(namespace, labels);
    const around = {
      services,
      policies: this.#policiesOf(namespace, labels, binding, services),
      waypoint: waypointAddress(binding),
      networkGateway: (network: string) => this.#view.networkGateway(network),
    };
    return announce(uid, buildWorkloadEntry(entry, around, settings));
  }

  /** Endpoints of a slice that are no pods. */
  buildSlice(namespace: string, name: string): ResourceUpdate[] {
    const slice = this.#view.store.find('EndpointSlice', namespace, name);
    const service = slice && this.#view.store.find('Service', namespace, slice.service);
    const built =
      slice !== undefined && service !== undefined && takesSlices(service)
        ? buildSliceEndpoints(slice, endpointService(service, this.#view.settings), this.#view.settings)
        : [];
    return this.#replace(`EndpointSlice/${namespace}/${name}`, built);
  }

  /** Endpoints that a ServiceEntry lists or resolves. */
  buildServiceEntry(namespace: string, name: string): ResourceUpdate[] {
    const entry = this.#view.store.find('ServiceEntry', namespace, name);
    const visible = entry !== undefined && this.#indexes.hosts.visibility(entry) !== 'none';
    return this.#replace(`ServiceEntry/${namespace}/${name}`, visible ? this.#workloadsOf(entry) : []);
  }

  /** The gateway to another network as a workload. */
  buildNetwork(network: string): ResourceUpdate[] {
    const found = this.#view.findNetworkGateway(network);
    const built = found && buildNetworkGateway(found.gateway, found.leadsTo);
    return this.#replace(`Network/${network}`, built === undefined ? [] : [built]);
  }

  #workloadsOf(entry: ServiceEntry): Workload[] {
    const { namespace, labels } = entry.meta;
    const around = {
      policies: this.#indexes.policies.policiesOf(namespace, labels),
      waypoint: waypointAddress(bindWaypoint(entry.meta, 'workload', this.#view)),
      networkGateway: (network: string) => this.#view.networkGateway(network),
    };
    return buildServiceEntryWorkloads(entry, this.#hostsOf(entry), around, this.#view.settings);
  }

  #workloadOf(pod: Pod): Workload | undefined {
    const { namespace, name, labels } = pod.meta;
    const gateway = labels.get(GATEWAY_NAME_LABEL);
    const services = this.#selectedBy(namespace, labels);
    const binding = bindWaypoint(pod.meta, 'workload', this.#view);
    for (const slice of this.#indexes.slices.ofPod(namespace, name)) {
      const service = this.#view.store.find('Service', namespace, slice.service);
      if (service === undefined || !takesSlices(service)) continue;
      services.push(servicePorts(slice, endpointService(service, this.#view.settings)));
    }
    const around = {
      node: this.#view.store.find('Node', '', pod.nodeName),
      services,
      policies: this.#policiesOf(namespace, labels, binding, services),
      waypoint: waypointAddress(binding),
      applicationTunnel: gateway === undefined ? undefined : this.#view.findApplicationTunnel(namespace, gateway),
    };
    return buildWorkload(pod, around, this.#view.settings);
  }

  /** Policies that select the workload, its mTLS policy, then those of the waypoints in front of it and its services. */
  #policiesOf(
    namespace: string,
    labels: ReadonlyMap<string, string>,
    binding: WaypointBinding,
    services: readonly EndpointService[],
  ): string[] {
    const { policies, waypoints } = this.#indexes;
    const names = policies.policiesOf(namespace, labels);
    if (!waypoints.enabled) return names;
    const bindings = services.map(({ key }) => this.#bindingOf(key));
    return [...names, ...waypoints.namesFor([binding, ...bindings])];
  }

  /** Of the service `<namespace>/<host>`. */
  #bindingOf(key: string): WaypointBinding {
    const slash = key.indexOf('/');
    const owner = this.#indexes.hosts.owner(key.slice(0, slash), key.slice(slash + 1));
    if (owner === undefined) return { waypoint: undefined, canary: undefined, condition: undefined };
    if (owner.kind === 'service') return bindWaypoint(owner.service.meta, 'service', this.#view);
    const { meta } = owner.entry;
    const isPrivate = this.#indexes.hosts.visibility(owner.entry) === 'namespace';
    return bindWaypoint(meta, 'service', this.#view, isPrivate ? meta.namespace : '');
  }

  /** Services and ServiceEntries that find a workload by its labels. */
  #selectedBy(namespace: string, labels: ReadonlyMap<string, string>): EndpointService[] {
    const services: EndpointService[] = [];
    for (const member of this.#indexes.members.matching(namespace, labels)) {
      if (member.kind === 'service') services.push(member.service);
      else {
        const entry = this.#view.store.find('ServiceEntry', namespace, member.entry);
        if (entry !== undefined) services.push(...this.#hostsOf(entry));
      }
    }
    return services;
  }

  /** Hosts that the entry answers for itself. */
  #hostsOf(entry: ServiceEntry): EndpointService[] {
    return this.#indexes.hosts.ownHosts(entry).map((host) => entryEndpointService(entry, host));
  }

  #replace(source: string, workloads: readonly Workload[]): ResourceUpdate[] {
    const updates = workloads.map((workload) => announce(workload.uid, workload));
    const names = new Set(workloads.map((workload) => workload.uid));
    for (const name of this.#announced.get(source) ?? []) {
      if (!names.has(name)) updates.push(announce(name, undefined));
    }
    if (names.size === 0) this.#announced.delete(source);
    else this.#announced.set(source, names);
    return updates;
  }
}

/** Endpoints of a Service with a selector are found by labels. */
function takesSlices(service: Service): boolean {
  return service.selector.size === 0 && service.type !== 'ExternalName';
}

function announce(name: string, workload: Workload | undefined): ResourceUpdate {
  return { type: ADDRESS_TYPE, name, resource: workload && workloadResource(workload) };
}
