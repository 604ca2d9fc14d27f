/**
 * What builders look up: the objects, the settings in force, waypoints and gateways to other networks. Derived facts are
 * kept until `refresh...` is called for the object they come from; the object store may be ahead of them meanwhile.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { GatewayAddressSchema } from '../../api/gen/istio/workload/workload_pb.js';
import type { ObjectStore } from '../model/object-store.ts';
import type { Namespace } from '../objects/cluster.ts';
import type { Gateway, GatewayClass } from '../objects/gateway.ts';
import { MESH_CONFIG_NAME, type MeshConfig } from '../objects/mesh-config.ts';
import type { MeshSettings } from '../settings.ts';
import { sameValue } from './same-value.ts';
import {
  type ApplicationTunnel,
  type GatewayRole,
  gatewayRole,
  inboundBinding,
  type NetworkGateway,
  readNetworkGateway,
  readWaypoint,
  type Waypoint,
} from './waypoint.ts';
import type { WaypointLookup } from './waypoint-binding.ts';

const NETWORK_LABEL = 'topology.istio.io/network';

/** What is known of a Gateway of the mesh. */
export interface GatewayFacts {
  readonly role: GatewayRole;
  /** Undefined while it cannot be used. */
  readonly waypoint: Waypoint | undefined;
  readonly applicationTunnel: ApplicationTunnel | undefined;
  readonly network: NetworkGateway | undefined;
}

export class MeshView implements WaypointLookup {
  readonly store: ObjectStore;
  readonly #base: MeshSettings;
  readonly #gateways = new Map<string, GatewayFacts>();
  /** Network to the Gateways that lead there, by name. */
  readonly #networks = new Map<string, Map<string, NetworkGateway>>();
  #settings: MeshSettings;
  #meshConfig: MeshConfig | undefined;

  constructor(store: ObjectStore, settings: MeshSettings) {
    this.store = store;
    this.#base = settings;
    this.#settings = settings;
  }

  /** As given at the start, with the network that the root namespace states. */
  get settings(): MeshSettings {
    return this.#settings;
  }

  get meshConfig(): MeshConfig | undefined {
    return this.#meshConfig;
  }

  /** Reads the root namespace anew; true when the network of the cluster is another one now. */
  refreshNetwork(): boolean {
    const label = this.findNamespace(this.#base.rootNamespace)?.meta.labels.get(NETWORK_LABEL);
    const network = label === undefined || label === '' ? this.#base.network : label;
    if (network === this.#settings.network) return false;
    this.#settings = { ...this.#base, network };
    return true;
  }

  /** Reads the MeshConfig anew; true when other ServiceEntries are visible than before. */
  refreshMeshConfig(): boolean {
    const before = this.#meshConfig?.serviceEntryVisibility;
    this.#meshConfig = this.store.find('MeshConfig', this.#base.rootNamespace, MESH_CONFIG_NAME);
    return !sameValue(before, this.#meshConfig?.serviceEntryVisibility);
  }

  /** Reads a Gateway anew. Gives what was known and what is known now where that differs. */
  refreshGateway(
    namespace: string,
    name: string,
  ): { before: GatewayFacts | undefined; after: GatewayFacts | undefined } | undefined {
    const key = `${namespace}/${name}`;
    const before = this.#gateways.get(key);
    const gateway = this.store.find('Gateway', namespace, name);
    const after = gateway === undefined ? undefined : this.#factsOf(gateway);
    if (sameValue(before, after)) return undefined;
    if (after === undefined) this.#gateways.delete(key);
    else this.#gateways.set(key, after);
    this.#indexNetwork(key, before?.network, after?.network);
    return { before, after };
  }

  findWaypoint(namespace: string, name: string): Waypoint | undefined {
    return this.#gateways.get(`${namespace}/${name}`)?.waypoint;
  }

  isMeshGateway(namespace: string, name: string): boolean {
    return this.#gateways.has(`${namespace}/${name}`);
  }

  /** How connections are handed to the pods of a Gateway that leaves HBONE to the agent. */
  findApplicationTunnel(namespace: string, name: string): ApplicationTunnel | undefined {
    return this.#gateways.get(`${namespace}/${name}`)?.applicationTunnel;
  }

  findNamespace(name: string): Namespace | undefined {
    return this.store.find('Namespace', '', name);
  }

  /** The address of the gateway to another network. */
  networkGateway(network: string): MessageInitShape<typeof GatewayAddressSchema> | undefined {
    return this.findNetworkGateway(network)?.leadsTo.address;
  }

  /** The Gateway `<namespace>/<name>` to another network; of several the first by name. */
  findNetworkGateway(network: string): { readonly gateway: string; readonly leadsTo: NetworkGateway } | undefined {
    let first: string | undefined;
    const candidates = this.#networks.get(network);
    for (const gateway of candidates?.keys() ?? []) if (first === undefined || gateway < first) first = gateway;
    const leadsTo = first === undefined ? undefined : candidates?.get(first);
    return first === undefined || leadsTo === undefined ? undefined : { gateway: first, leadsTo };
  }

  #factsOf(gateway: Gateway): GatewayFacts | undefined {
    const gatewayClass: GatewayClass | undefined = this.store.find('GatewayClass', '', gateway.className);
    const role = gatewayRole(gateway, gatewayClass);
    if (role === undefined) return undefined;
    return {
      role,
      waypoint: readWaypoint(gateway, gatewayClass, this.#settings.network),
      applicationTunnel: role === 'waypoint' ? inboundBinding(gateway, gatewayClass) : undefined,
      network:
        role === 'remote' ? readNetworkGateway(gateway, gateway.meta.labels.get(NETWORK_LABEL) ?? '') : undefined,
    };
  }

  #indexNetwork(key: string, before: NetworkGateway | undefined, after: NetworkGateway | undefined): void {
    if (before !== undefined) {
      const members = this.#networks.get(before.network);
      members?.delete(key);
      if (members?.size === 0) this.#networks.delete(before.network);
    }
    if (after !== undefined) {
      const members = this.#networks.get(after.network) ?? new Map<string, NetworkGateway>();
      members.set(key, after);
      this.#networks.set(after.network, members);
    }
  }
}
