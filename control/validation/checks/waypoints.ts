/** AMB0402 to AMB0405, AMB0410: references to waypoints that lead nowhere. Discovery decides; its reasons become codes. */
import type { ObjectMeta } from '../../objects/metadata.ts';
import type { FindingCode } from '../codes.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView } from '../view.ts';
import { bindingOf } from '../waypoint-view.ts';
import { keyOf } from './keys.ts';

const USE_WAYPOINT = 'istio.io/use-waypoint';

/** Kinds behind a waypoint for services; anything else is a workload or makes some. */
const TO_SERVICES: ReadonlySet<string> = new Set(['Namespace', 'Service', 'ServiceEntry']);

const CODES: Readonly<Record<string, FindingCode>> = {
  AttachmentDenied: 'AMB0404',
  UnsupportedTrafficType: 'AMB0405',
  CrossNamespaceWaypointForbidden: 'AMB0404',
};

type LabelledMeta = Pick<ObjectMeta, 'name' | 'namespace' | 'labels' | 'annotations' | 'owner'>;

/** For an object that carries the label itself; what it inherits is said of its namespace. */
export function* checkWaypointReference(
  object: { readonly kind: string; readonly meta: LabelledMeta },
  view: AnalysisView,
): Iterable<Finding> {
  const isNamespace = object.kind === 'Namespace';
  const name = object.meta.labels.get(USE_WAYPOINT) ?? '';
  if (name === '' || name === 'none' || !view.knows('Gateway')) return;
  // A namespace speaks for what is in it.
  const meta = isNamespace ? { ...object.meta, namespace: object.meta.name } : object.meta;
  const traffic = TO_SERVICES.has(object.kind) ? 'service' : 'workload';
  const { condition } = bindingOf(meta, traffic, view);
  if (condition === undefined || condition.reason === 'WaypointAccepted') return;
  // Waypoints for other traffic are passed over in silence where a namespace names them.
  if (isNamespace && condition.reason === 'UnsupportedTrafficType') return;
  const at = { object: keyOf(object), field: `metadata.labels[${USE_WAYPOINT}]` };
  const message = condition.message.charAt(0).toLowerCase() + condition.message.slice(1).replace(/\.$/, '');
  if (condition.status === 'True') {
    yield finding('AMB0410', at, message);
    return;
  }
  const namespace = object.meta.labels.get(`${USE_WAYPOINT}-namespace`) || meta.namespace;
  const exists = view.objects.find('Gateway', namespace, name) !== undefined;
  const short = `names waypoint ${namespace}/${name}`;
  const code = CODES[condition.reason] ?? (exists ? 'AMB0403' : 'AMB0402');
  yield finding(code, at, code === 'AMB0402' ? `${short}, which does not exist` : short);
}
