/** Fields that workloads of every source have in common. Pure. */
import { TunnelProtocol } from '../../api/gen/istio/workload/workload_pb.js';
import type { Node } from '../objects/cluster.ts';
import type { ObjectMeta } from '../objects/metadata.ts';
import type { MeshSettings } from '../settings.ts';

/** Identities of this domain are the default of the wire format and are left empty. */
const DEFAULT_TRUST_DOMAIN = 'cluster.local';

export function trustDomainField(settings: MeshSettings): string {
  return settings.trustDomain === DEFAULT_TRUST_DOMAIN ? '' : settings.trustDomain;
}

/** HBONE where the agent captured the workload (annotation) or where the workload speaks it on its own (label). */
export function tunnelFields(
  labels: ReadonlyMap<string, string>,
  annotations: ReadonlyMap<string, string>,
): { tunnelProtocol: TunnelProtocol; nativeTunnel: boolean } {
  const nativeTunnel = (labels.get('networking.istio.io/tunnel') ?? '').split(',').includes('http');
  const captured = annotations.get('ambient.istio.io/redirection') === 'enabled';
  return { tunnelProtocol: nativeTunnel || captured ? TunnelProtocol.HBONE : TunnelProtocol.NONE, nativeTunnel };
}

export interface LocalityFields {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** Undefined where nothing is known. */
export function nodeLocality(node: Pick<Node, 'meta'> | undefined): LocalityFields | undefined {
  const labels = node?.meta.labels;
  const region = labels?.get('topology.kubernetes.io/region') ?? '';
  const zone = labels?.get('topology.kubernetes.io/zone') ?? '';
  const subzone = labels?.get('topology.istio.io/subzone') ?? '';
  return region + zone + subzone === '' ? undefined : { region, zone, subzone };
}

/** What names of telemetry are made from. */
export type NamedMeta = Pick<ObjectMeta, 'name' | 'labels' | 'owner'>;
