/**
 * Names of workload resources, unique in the mesh: `<cluster>/<group>/<kind>/<namespace>/<name>[/<address>]`. The group
 * of a pod is empty, hence the double slash. Agents and tools know pods by this form.
 */

export function podUid(clusterId: string, namespace: string, name: string): string {
  return `${clusterId}//Pod/${namespace}/${name}`;
}

export function workloadEntryUid(clusterId: string, namespace: string, name: string): string {
  return `${clusterId}/networking.istio.io/WorkloadEntry/${namespace}/${name}`;
}

/** `address`: of an inline endpoint, or the host of an entry that is resolved by DNS. */
export function serviceEntryUid(clusterId: string, namespace: string, name: string, address: string): string {
  return `${clusterId}/networking.istio.io/ServiceEntry/${namespace}/${name}/${address}`;
}

export function endpointSliceUid(clusterId: string, namespace: string, slice: string, address: string): string {
  return `${clusterId}/discovery.k8s.io/EndpointSlice/${namespace}/${slice}/${address}`;
}

export function networkGatewayUid(network: string, address: string, port: number): string {
  return `NetworkGateway/${network}/${address}/${port}`;
}
