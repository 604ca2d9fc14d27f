/**
 * The gateway of another network -> istio.workload.Workload, so that agents find the address that workloads of that
 * network name as their gateway. Pure.
 */
import { create } from '@bufbuild/protobuf';
import {
  NetworkMode,
  TunnelProtocol,
  type Workload,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from '../../api/gen/istio/workload/workload_pb.js';
import { ipToBytes } from '../../core/ip.ts';
import { networkGatewayUid } from './uid.ts';
import type { NetworkGateway } from './waypoint.ts';

/** `gateway`: `<namespace>/<name>`. */
export function buildNetworkGateway(gateway: string, leadsTo: NetworkGateway): Workload {
  const { host, network, port } = leadsTo;
  const [namespace = '', name = ''] = gateway.split('/');
  return create(WorkloadSchema, {
    uid: networkGatewayUid(network, host.kind === 'ip' ? host.ip : host.name, port),
    name,
    namespace,
    addresses: host.kind === 'ip' ? [ipToBytes(host.ip)] : [],
    hostname: host.kind === 'name' ? host.name : '',
    network,
    tunnelProtocol: TunnelProtocol.HBONE,
    trustDomain: leadsTo.trustDomain,
    serviceAccount: leadsTo.serviceAccount,
    workloadName: name,
    canonicalName: name,
    canonicalRevision: 'latest',
    workloadType: WorkloadType.POD,
    status: WorkloadStatus.HEALTHY,
    networkMode: NetworkMode.STANDARD,
  });
}
