/** What every builder needs to know about the mesh as a whole. Fixed for the life of the process. */
export interface MeshSettings {
  readonly clusterId: string;
  readonly network: string;
  readonly trustDomain: string;
  /** DNS suffix of services: `<name>.<namespace>.svc.<domain>`. */
  readonly clusterDomain: string;
  /** Policies in this namespace apply to the mesh. */
  readonly rootNamespace: string;
  /** Workloads behind a waypoint accept connections from the waypoint alone. Absent: from everybody. */
  readonly allowOnlyWaypoints?: boolean;
}
