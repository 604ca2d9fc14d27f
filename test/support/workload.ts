/** Workload records for tests of pure code: every field has a plain value, a test names only those it is about. */

import type { Workload } from '../../agent/state/workload.ts';
import { getIp } from '../../core/ip.ts';
import { formatSpiffeId } from '../../core/spiffe.ts';

export function testWorkload(fields: Partial<Workload> = {}): Workload {
  const name = fields.name ?? 'pod-1';
  const namespace = fields.namespace ?? 'default';
  const serviceAccount = fields.serviceAccount ?? name;
  const trustDomain = fields.trustDomain ?? 'cluster.local';
  const identity = fields.identity ?? formatSpiffeId({ trustDomain, namespace, serviceAccount });
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    name,
    namespace,
    addresses: [getIp('10.0.0.1')],
    hostname: '',
    network: '',
    tunnelProtocol: 'HBONE',
    trustDomain,
    serviceAccount,
    identity,
    identities: [identity],
    waypoint: undefined,
    networkGateway: undefined,
    node: 'node-1',
    canonicalName: name,
    canonicalRevision: 'latest',
    workloadType: 'pod',
    workloadName: name,
    nativeTunnel: false,
    applicationTunnel: undefined,
    memberships: [],
    authorizationPolicies: [],
    healthy: true,
    clusterId: 'Kubernetes',
    locality: { region: '', zone: '', subzone: '' },
    hostNetwork: false,
    capacity: 1,
    ...fields,
  };
}
