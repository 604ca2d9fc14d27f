/** The checks of a PeerAuthentication, AMB03xx. AMB0302 is found while the object is read. */

import { selects } from '../../objects/metadata.ts';
import type { PeerAuthentication } from '../../objects/peer-authentication.ts';
import { oldest } from '../../policy/mutual-tls.ts';
import type { Check } from '../check.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView, Workload } from '../view.ts';
import { keyOf } from './keys.ts';
import { servicePortOnly } from './ports.ts';

/** Workloads named in one finding. */
const MAX_NAMED = 3;

function* checkRootSelector(peer: PeerAuthentication, view: AnalysisView): Iterable<Finding> {
  if (peer.selector === undefined || peer.meta.namespace !== view.settings.rootNamespace) return;
  yield finding(
    'AMB0301',
    { object: keyOf(peer), field: 'selector' },
    `stands in the root namespace ${peer.meta.namespace}`,
  );
}

function* checkSelector(peer: PeerAuthentication, view: AnalysisView): Iterable<Finding> {
  if (peer.selector === undefined || peer.meta.namespace === view.settings.rootNamespace || !view.knowsWorkloads)
    return;
  if (selected(peer, view).length > 0) return;
  const labels = [...peer.selector].map(([key, value]) => `${key}=${value}`).join(', ');
  yield finding('AMB0102', { object: keyOf(peer), field: 'selector.matchLabels' }, `no workload has ${labels}`);
}

/** Of the same level: without selector in the namespace, or selecting the same workload. */
function* checkRivals(peer: PeerAuthentication, view: AnalysisView): Iterable<Finding> {
  const rivals = [...view.objects.inNamespace('PeerAuthentication', peer.meta.namespace)].filter(({ selector }) => {
    if (peer.selector === undefined || selector === undefined) return peer.selector === selector;
    const workloads = selected(peer, view);
    return workloads.some(({ labels }) => selects(selector, labels));
  });
  const counting = oldest([...rivals.filter(({ meta }) => meta.name !== peer.meta.name), peer]);
  if (counting === undefined || counting === peer) return;
  const message = `${keyOf(counting)} is older and counts for the same workloads`;
  yield finding('AMB0303', { object: keyOf(peer), field: 'selector' }, message);
}

function* checkModes(peer: PeerAuthentication): Iterable<Finding> {
  const object = keyOf(peer);
  if (peer.mode === 'DISABLE') yield finding('AMB0305', { object, field: 'mtls.mode' }, 'is DISABLE');
  for (const [port, mode] of peer.ports) {
    if (mode === 'DISABLE') yield finding('AMB0305', { object, field: `portLevelMtls.${port}` }, 'is DISABLE');
  }
}

function* checkPortNumbers(peer: PeerAuthentication, view: AnalysisView): Iterable<Finding> {
  for (const port of peer.ports.keys()) {
    const mistake = servicePortOnly(port, selected(peer, view), view);
    const at = { object: keyOf(peer), field: `portLevelMtls.${port}` };
    if (mistake !== undefined) yield finding('AMB0306', at, `${port} ${mistake}`);
  }
}

/** Whoever is not in the mesh may be a client; which of them are, only traffic shows. */
function* checkStrict(peer: PeerAuthentication, view: AnalysisView): Iterable<Finding> {
  if (peer.mode !== 'STRICT') return;
  const outside = new Set<string>();
  for (const workload of view.allWorkloads()) {
    const excluded = view.settings.eligibility.excludedNamespaces.has(workload.namespace);
    if (!excluded && !view.isEnrolled(workload)) outside.add(workload.owner);
  }
  if (outside.size === 0 || !view.knowsWorkloads) return;
  const named = [...outside].slice(0, MAX_NAMED).join(', ') + (outside.size > MAX_NAMED ? ', ...' : '');
  const message = `is STRICT, and ${outside.size} workloads are not in the mesh (${named})`;
  yield finding('AMB0304', { object: keyOf(peer), field: 'mtls.mode' }, message);
}

function selected(peer: PeerAuthentication, view: AnalysisView): Workload[] {
  const { selector } = peer;
  return view
    .workloadsIn(peer.meta.namespace)
    .filter(({ labels }) => selector === undefined || selects(selector, labels));
}

export const PEER_AUTHENTICATION_CHECKS: readonly Check<'PeerAuthentication'>[] = [
  checkRootSelector,
  checkSelector,
  checkRivals,
  checkModes,
  checkPortNumbers,
  checkStrict,
];
