/**
 * Which waypoint a service or workload is behind, and what its author is told. Pure.
 *
 *   object label istio.io/use-waypoint   `none`: no waypoint; a name: that one, or none at all when it cannot be used
 *   else the label of the namespace      the same, but a waypoint that takes other traffic is passed over in silence
 *
 * An object that names a waypoint that is missing, not ready or closed to it is not behind any waypoint: its traffic goes
 * directly, which the condition says. It does not fall back to the waypoint of the namespace.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { GatewayAddressSchema, WeightedWaypointSchema } from '../../api/gen/istio/workload/workload_pb.js';
import type { Namespace } from '../objects/cluster.ts';
import type { ObjectMeta } from '../objects/metadata.ts';
import type { ObjectCondition } from './condition.ts';
import { admits, GATEWAY_NAME_LABEL, takes, type Waypoint } from './waypoint.ts';

type LabelledMeta = Pick<ObjectMeta, 'namespace' | 'labels' | 'annotations' | 'owner'>;

/** What binding looks up. */
export interface WaypointLookup {
  /** A waypoint that can be used now. */
  findWaypoint(namespace: string, name: string): Waypoint | undefined;
  /** True for a Gateway that is a waypoint or leads to other networks, ready or not. */
  isMeshGateway(namespace: string, name: string): boolean;
  findNamespace(name: string): Namespace | undefined;
}

export interface WaypointReference {
  readonly namespace: string;
  readonly name: string;
}

export interface WaypointBinding {
  /** Undefined: traffic goes directly. */
  readonly waypoint: Waypoint | undefined;
  /** The second waypoint and its share of the connections in percent. */
  readonly canary: { readonly waypoint: Waypoint; readonly weight: number } | undefined;
  /** Undefined where nothing was asked for. */
  readonly condition: ObjectCondition | undefined;
}

const UNBOUND: WaypointBinding = { waypoint: undefined, canary: undefined, condition: undefined };
const MANAGED_LABEL = 'gateway.istio.io/managed';
const MESH_CONTROLLERS: ReadonlySet<string> = new Set(['istio.io-mesh-controller', 'istio.io-eastwest-controller']);

/**
 * @param traffic what the object receives: a workload reached by its own address needs a waypoint that takes that
 * @param privateTo the namespace that alone sees the object: a waypoint elsewhere would carry it out; empty: everybody
 */
export function bindWaypoint(
  meta: LabelledMeta,
  traffic: 'service' | 'workload',
  lookup: WaypointLookup,
  privateTo = '',
): WaypointBinding {
  if (belongsToGateway(meta, lookup)) return UNBOUND;
  const { reference, by } = findReference(meta, lookup);
  if (reference === undefined) return UNBOUND;
  const key = `${reference.namespace}/${reference.name}`;
  const resolved = resolve(reference, meta.namespace, privateTo, lookup);
  if (resolved.kind === 'refused') return refusal(resolved.reason, resolved.message);
  const { waypoint } = resolved;
  if (!takes(waypoint, traffic)) {
    if (by !== meta) return UNBOUND;
    const message = `Waypoint ${key} takes ${describeTraffic(waypoint)}, not traffic to ${traffic}s: set its label istio.io/waypoint-for to ${traffic} or all. Traffic goes directly.`;
    return refusal('UnsupportedTrafficType', message);
  }
  if (traffic === 'workload') return bound(waypoint, undefined, meta, lookup);
  return withCanary(waypoint, by, meta, privateTo, lookup);
}

/** `gateway address` of a bound service or workload; undefined for none. */
export function waypointAddress(binding: WaypointBinding): MessageInitShape<typeof GatewayAddressSchema> | undefined {
  return binding.waypoint?.address;
}

/** Empty without a canary. */
export function weightedWaypoints(binding: WaypointBinding): MessageInitShape<typeof WeightedWaypointSchema>[] {
  const { waypoint, canary } = binding;
  if (waypoint === undefined || canary === undefined) return [];
  return [
    { destination: waypoint.address, weight: 100 - canary.weight },
    { destination: canary.waypoint.address, weight: canary.weight },
  ];
}

/** True when ingress gateways must go through the waypoint too: the label of the object, else of its namespace. */
export function ingressUsesWaypoint(meta: LabelledMeta, namespace: Namespace | undefined): boolean {
  const label = 'istio.io/ingress-use-waypoint';
  return (meta.labels.get(label) ?? namespace?.meta.labels.get(label)) === 'true';
}

/** The waypoints that `meta` names, usable or not, itself or through its namespace: what a Gateway's change can reach. */
export function referencedWaypoints(meta: LabelledMeta, lookup: WaypointLookup): WaypointReference[] {
  const { reference, by } = findReference(meta, lookup);
  if (reference === undefined) return [];
  const canary = nameIn(by, 'istio.io/use-waypoint-canary', meta.namespace);
  return canary === undefined ? [reference] : [reference, canary];
}

/** Services and pods of a waypoint or of a gateway between networks: they are never behind a waypoint. */
export function belongsToGateway(meta: LabelledMeta, lookup: Pick<WaypointLookup, 'isMeshGateway'>): boolean {
  if (MESH_CONTROLLERS.has(meta.labels.get(MANAGED_LABEL) ?? '')) return true;
  const name = meta.labels.get(GATEWAY_NAME_LABEL) ?? (meta.owner?.kind === 'Gateway' ? meta.owner.name : undefined);
  return name !== undefined && lookup.isMeshGateway(meta.namespace, name);
}

/** `by`: the metadata that carries the reference, the object's own or its namespace's. */
function findReference(
  meta: LabelledMeta,
  lookup: WaypointLookup,
): { reference: WaypointReference | undefined; by: LabelledMeta } {
  const own = meta.labels.get('istio.io/use-waypoint') ?? '';
  const by = own === '' ? lookup.findNamespace(meta.namespace)?.meta : meta;
  if (by === undefined) return { reference: undefined, by: meta };
  return { reference: nameIn(by, 'istio.io/use-waypoint', meta.namespace), by };
}

function nameIn(by: LabelledMeta, label: string, fallbackNamespace: string): WaypointReference | undefined {
  const name = by.labels.get(label) ?? '';
  if (name === '' || name === 'none') return undefined;
  return { name, namespace: by.labels.get(`${label}-namespace`) || fallbackNamespace };
}

type Resolved =
  | { readonly kind: 'found'; readonly waypoint: Waypoint }
  | { readonly kind: 'refused'; readonly reason: string; readonly message: string };

function resolve(
  { namespace, name }: WaypointReference,
  from: string,
  privateTo: string,
  lookup: WaypointLookup,
): Resolved {
  const key = `${namespace}/${name}`;
  if (privateTo !== '' && namespace !== privateTo) {
    const message = `Waypoint ${key} is in another namespace, but this ServiceEntry is private to ${privateTo} (MeshConfig serviceEntryVisibility): use a waypoint of ${privateTo}. Traffic goes directly.`;
    return { kind: 'refused', reason: 'CrossNamespaceWaypointForbidden', message };
  }
  const waypoint = lookup.findWaypoint(namespace, name);
  if (waypoint === undefined) {
    const message = `Waypoint ${key} does not exist or has no address yet: traffic goes directly, without its L7 policies, until it is ready.`;
    return { kind: 'refused', reason: 'WaypointIsNotReady', message };
  }
  if (!admits(waypoint, from, lookup.findNamespace(from)?.meta.labels)) {
    const message = `Waypoint ${key} does not admit objects of namespace ${from}: extend allowedRoutes.namespaces of its HBONE listener. Traffic goes directly.`;
    return { kind: 'refused', reason: 'AttachmentDenied', message };
  }
  return { kind: 'found', waypoint };
}

function withCanary(
  waypoint: Waypoint,
  by: LabelledMeta,
  meta: LabelledMeta,
  privateTo: string,
  lookup: WaypointLookup,
): WaypointBinding {
  const reference = nameIn(by, 'istio.io/use-waypoint-canary', meta.namespace);
  if (reference === undefined) return bound(waypoint, undefined, meta, lookup);
  const key = `${reference.namespace}/${reference.name}`;
  const without = (reason: string, message: string): WaypointBinding => ({
    waypoint,
    canary: undefined,
    condition: { type: WAYPOINT_BOUND, status: 'True', reason, message: `${message} ${describeBound(waypoint)}` },
  });
  if (reference.namespace === waypoint.namespace && reference.name === waypoint.name) {
    return without('CanarySameAsPrimary', `The canary waypoint ${key} is the waypoint itself: name another one.`);
  }
  const weight = canaryWeight(by.annotations.get(CANARY_WEIGHT));
  if (weight === undefined) {
    return without(
      'CanaryInvalidWeight',
      `Annotation ${CANARY_WEIGHT} must be a whole number from 0 to 100: the canary waypoint ${key} gets nothing.`,
    );
  }
  const resolved = resolve(reference, meta.namespace, privateTo, lookup);
  if (resolved.kind === 'refused') return without(resolved.reason, `Canary: ${resolved.message}`);
  if (!takes(resolved.waypoint, 'service')) {
    return without('UnsupportedTrafficType', `The canary waypoint ${key} does not take traffic to services.`);
  }
  return bound(waypoint, { waypoint: resolved.waypoint, weight }, meta, lookup);
}

const WAYPOINT_BOUND = 'istio.io/WaypointBound';
const CANARY_WEIGHT = 'istio.io/use-waypoint-canary-weight';

/** Percent; 0 where nothing is stated, undefined for anything that is no such number. */
export function canaryWeight(text: string | undefined): number | undefined {
  if (text === undefined) return 0;
  if (!/^(0|[1-9][0-9]{0,2})$/.test(text)) return undefined;
  const weight = Number(text);
  return weight <= 100 ? weight : undefined;
}

function bound(
  waypoint: Waypoint,
  canary: WaypointBinding['canary'],
  meta: LabelledMeta,
  lookup: WaypointLookup,
): WaypointBinding {
  const share =
    canary === undefined
      ? ''
      : ` ${canary.weight} percent of the connections go through ${canary.waypoint.namespace}/${canary.waypoint.name}.`;
  const ingress = ingressUsesWaypoint(meta, lookup.findNamespace(meta.namespace))
    ? ' So does traffic of ingress gateways.'
    : '';
  const message = `${describeBound(waypoint)}${share}${ingress}`;
  return { waypoint, canary, condition: { type: WAYPOINT_BOUND, status: 'True', reason: 'WaypointAccepted', message } };
}

function describeBound(waypoint: Waypoint): string {
  return `Traffic of the mesh goes through waypoint ${waypoint.namespace}/${waypoint.name}.`;
}

function describeTraffic(waypoint: Waypoint): string {
  return waypoint.traffic === 'none' ? 'no traffic' : `traffic to ${waypoint.traffic}s`;
}

function refusal(reason: string, message: string): WaypointBinding {
  return { ...UNBOUND, condition: { type: WAYPOINT_BOUND, status: 'False', reason, message } };
}
