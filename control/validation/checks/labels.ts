/** AMB0201, AMB0202, AMB0204, AMB0205, AMB0409: labels that do not do what they seem to say. */

import { DATAPLANE_MODE_LABEL } from '../../../core/enrolment/eligibility.ts';
import type { Namespace } from '../../objects/cluster.ts';
import type { ObjectMeta } from '../../objects/metadata.ts';
import type { ObjectKind } from '../../objects/object.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView, Workload } from '../view.ts';
import { keyOf } from './keys.ts';

const MODES: ReadonlySet<string> = new Set(['ambient', 'none']);
/** Written instead of the label; nothing reads them. */
const MISSPELT =
  /^(istio\.io\/(data-?plane(-?mode)?|datapath-mode|dataplane\.mode)|(ambient\.)?istio\.io\/ambient|dataplane-mode|istio\.io\/mode)$/i;
/** Kinds that may carry the label without effect; Gateways carry it for their pods. */
const WITHOUT_MODE: readonly ObjectKind[] = ['Service', 'ServiceAccount', 'AuthorizationPolicy', 'PeerAuthentication'];
const USE_WAYPOINT = 'istio.io/use-waypoint';
const WAYPOINT_FOR = 'istio.io/waypoint-for';
const TRAFFIC: ReadonlySet<string> = new Set(['service', 'workload', 'all', 'none']);
/** Kinds that are behind a waypoint, or say so for what is in them. */
const BEHIND_WAYPOINT: ReadonlySet<string> = new Set(['Namespace', 'Service', 'ServiceEntry', 'WorkloadEntry', 'Pod']);
const WAYPOINT_KINDS: ReadonlySet<string> = new Set(['Gateway', 'GatewayClass']);

export function* checkNamespaceLabels(namespace: Namespace, view: AnalysisView): Iterable<Finding> {
  const { labels, name } = namespace.meta;
  yield* checkMode(keyOf(namespace), labels);
  if (labels.get(DATAPLANE_MODE_LABEL) !== 'ambient') return;
  if (view.settings.eligibility.excludedNamespaces.has(name)) {
    const message = `${DATAPLANE_MODE_LABEL} does nothing here: namespace ${name} is excluded from the mesh`;
    const fix = 'Remove the label, or take the namespace out of the excluded ones of the agents.';
    yield finding('AMB0202', { object: keyOf(namespace), field: 'metadata.labels' }, message, { fix });
  }
  if (labels.get('istio-injection') !== 'enabled') return;
  const message = `has istio-injection=enabled and ${DATAPLANE_MODE_LABEL}=ambient`;
  yield finding('AMB0204', { object: keyOf(namespace), field: 'metadata.labels' }, message);
}

/** Of a pod or a pod template. */
export function* checkWorkloadLabels(workload: Workload): Iterable<Finding> {
  const { kind, namespace, name, labels, hostNetwork } = workload;
  const key = `${kind}/${namespace}/${name}`;
  yield* checkMode(key, labels);
  if (labels.get(DATAPLANE_MODE_LABEL) !== 'ambient') return;
  const at = { object: key, field: 'metadata.labels' };
  if (hostNetwork) yield finding('AMB0205', at, `has ${DATAPLANE_MODE_LABEL}=ambient and hostNetwork`);
  if (labels.get('sidecar.istio.io/inject') === 'true') {
    yield finding('AMB0204', at, `has sidecar.istio.io/inject=true and ${DATAPLANE_MODE_LABEL}=ambient`);
  }
}

function* checkMode(object: string, labels: ReadonlyMap<string, string>): Iterable<Finding> {
  const mode = labels.get(DATAPLANE_MODE_LABEL);
  const at = { object, field: 'metadata.labels' };
  if (mode !== undefined && !MODES.has(mode)) {
    yield finding('AMB0201', at, `${DATAPLANE_MODE_LABEL}=${mode} is neither ambient nor none`);
  }
  for (const key of labels.keys()) {
    if (key !== DATAPLANE_MODE_LABEL && MISSPELT.test(key))
      yield finding('AMB0201', at, `${key} is not a label that is read`);
  }
}

/** What a controller carries itself does not reach its pods; `labels` are its own, `template` those of its pods. */
export function* checkControllerLabels(
  key: string,
  labels: ReadonlyMap<string, string>,
  template: ReadonlyMap<string, string>,
): Iterable<Finding> {
  if (!labels.has(DATAPLANE_MODE_LABEL) || template.has(DATAPLANE_MODE_LABEL)) return;
  const at = { object: key, field: 'metadata.labels' };
  yield finding('AMB0202', at, `${DATAPLANE_MODE_LABEL} is on the ${key.split('/', 1)[0]}, not on its pod template`);
}

/** Values of `istio.io/waypoint-for`, on Gateways and their classes. */
export function* checkWaypointFor(object: { readonly kind: string; readonly meta: ObjectMeta }): Iterable<Finding> {
  const value = object.meta.labels.get(WAYPOINT_FOR);
  if (value === undefined || TRAFFIC.has(value)) return;
  const at = { object: keyOf(object), field: `metadata.labels[${WAYPOINT_FOR}]` };
  yield finding('AMB0411', at, `${WAYPOINT_FOR}=${value} is none of ${[...TRAFFIC].join(', ')}`);
}

/** Labels that are read on other kinds only. */
export function* checkUselessLabels(object: { readonly kind: string; readonly meta: ObjectMeta }): Iterable<Finding> {
  const { labels } = object.meta;
  if (labels.size === 0) return;
  const at = { object: keyOf(object), field: 'metadata.labels' };
  if (labels.has(DATAPLANE_MODE_LABEL) && WITHOUT_MODE.some((kind) => kind === object.kind)) {
    yield finding('AMB0202', at, `${DATAPLANE_MODE_LABEL} does nothing on a ${object.kind}`);
  }
  if (labels.has(USE_WAYPOINT) && !BEHIND_WAYPOINT.has(object.kind)) {
    yield finding('AMB0409', at, `${USE_WAYPOINT} does nothing on a ${object.kind}`);
  }
  if (labels.has(WAYPOINT_FOR) && !WAYPOINT_KINDS.has(object.kind)) {
    yield finding('AMB0409', at, `${WAYPOINT_FOR} does nothing on a ${object.kind}`);
  }
}
