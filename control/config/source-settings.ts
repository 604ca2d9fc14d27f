/** Where the control plane reads the mesh from, and who it is there. */
import { boolean, dnsName, name, oneOf, optionalName, optionalPath, row } from './setting.ts';

export const SOURCE_SETTINGS = {
  source: row({
    flag: 'source',
    env: 'AMBIT_SOURCE',
    parse: oneOf('files', 'kubernetes'),
    default: 'files',
    documentation: 'Where objects come from: a folder of YAML, or the API server of a cluster.',
  }),
  configDir: row({
    flag: 'config-dir',
    env: 'AMBIT_CONFIG_DIR',
    parse: optionalPath,
    default: '',
    documentation: 'Folder of Kubernetes YAML that is watched. Must be given with the source "files".',
  }),
  stateDir: row({
    flag: 'state-dir',
    env: 'AMBIT_STATE_DIR',
    parse: optionalPath,
    default: '',
    documentation:
      'Folder of the CA: its keys, and root-cert.pem for clients. Kept across restarts. Must be given with the source "files"; with Kubernetes the CA lives in a Secret.',
  }),
  kubeconfig: row({
    flag: 'kubeconfig',
    env: 'KUBECONFIG',
    parse: optionalPath,
    default: '',
    documentation: 'How to reach the API server. Empty: as the pod this process runs in.',
  }),
  podName: row({
    flag: 'pod-name',
    env: 'POD_NAME',
    parse: optionalName,
    default: '',
    documentation:
      'Name of this replica: who holds the Lease, and what agents are told they are connected to. Empty: the host name.',
  }),
  podNamespace: row({
    flag: 'pod-namespace',
    env: 'POD_NAMESPACE',
    parse: optionalName,
    default: '',
    documentation:
      'Namespace of this replica: of its Lease, of the Secret of the CA, of its Service. Empty: the root namespace.',
  }),
  revision: row({
    flag: 'revision',
    env: 'REVISION',
    parse: optionalName,
    default: '',
    documentation:
      'Name of this control plane: policies, entries and gateways whose label istio.io/rev names another are left to that one. Empty: default.',
    chart: 'revision',
  }),
  clusterId: row({
    flag: 'cluster-id',
    env: 'CLUSTER_ID',
    parse: name,
    default: 'Kubernetes',
    documentation: 'First part of the names of workloads.',
    chart: 'global.multiCluster.clusterName',
  }),
  network: row({
    flag: 'network',
    env: 'NETWORK',
    parse: optionalName,
    default: '',
    documentation: 'Network of all workloads of this source.',
    chart: 'global.network',
  }),
  trustDomain: row({
    flag: 'trust-domain',
    env: 'TRUST_DOMAIN',
    parse: dnsName,
    default: 'cluster.local',
    documentation: 'Trust domain of every identity. Cannot change once the CA has roots.',
    chart: 'meshConfig.trustDomain',
  }),
  clusterDomain: row({
    flag: 'cluster-domain',
    env: 'CLUSTER_DOMAIN',
    parse: dnsName,
    default: 'cluster.local',
    documentation: 'DNS suffix of services.',
    chart: 'global.proxy.clusterDomain',
  }),
  rootNamespace: row({
    flag: 'root-namespace',
    env: 'ROOT_NAMESPACE',
    parse: name,
    default: 'istio-system',
    documentation: 'Policies in this namespace apply to the whole mesh.',
  }),
  allowOnlyWaypoints: row({
    flag: 'allow-only-waypoints',
    env: 'PILOT_AUTO_ALLOW_WAYPOINT_POLICY',
    parse: boolean,
    default: 'false',
    documentation:
      'Workloads behind a waypoint accept connections from the waypoint alone: nobody goes past its L7 policies.',
  }),
} as const;
