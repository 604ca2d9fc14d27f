/**
 * Asks the API server about the agent's own DaemonSet, a few times, so that `departure.ts` can judge why the agent is to
 * stop. Bounded in time: an agent that stops has a grace period to spend on connections.
 */
import { isRecord } from '../../core/decoder.ts';
import { type LabelSelector, matchesSelector } from '../../core/enrolment/label-selector.ts';
import { toAmbitError } from '../../core/errors.ts';
import { isForbidden, isNotFound, isUnauthorized } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { KubeObject } from '../../kube/object.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { type Departure, judgeDeparture, type OwnerAnswer } from './departure.ts';

const TRIES = 3;
const CALL_TIMEOUT_MS = 1000;
const PAUSE_MS = 400;

export interface OwnerReference {
  readonly namespace: string;
  readonly daemonSet: string;
  readonly node: string;
}

/** Never rejects; takes less than five seconds. */
export async function findDeparture(client: KubeClient, owner: OwnerReference): Promise<Departure> {
  const answers: OwnerAnswer[] = [];
  for (let attempt = 1; attempt <= TRIES; attempt++) {
    if (attempt > 1) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const answer = await ask(client, owner);
    answers.push(answer);
    if (answer.kind === 'present' || answer.kind === 'absent') break;
  }
  return judgeDeparture(answers);
}

async function ask(client: KubeClient, { namespace, daemonSet, node }: OwnerReference): Promise<OwnerAnswer> {
  const options = { timeoutMs: CALL_TIMEOUT_MS };
  try {
    const found = await client.get(RESOURCES.DaemonSet, namespace, daemonSet, options);
    const deleting = found.metadata.deletionTimestamp !== undefined;
    if (deleting) return { kind: 'present', deleting, selectsThisNode: true };
    const labels = labelsOf(await client.get(RESOURCES.Node, '', node, options));
    return { kind: 'present', deleting, selectsThisNode: selectsNode(podSpecOf(found), labels, node) };
  } catch (thrown) {
    // Both questions are about things that the agent may ask for as long as it is installed.
    if (isNotFound(thrown)) return { kind: 'absent' };
    if (isUnauthorized(thrown)) return { kind: 'refused', status: 401 };
    if (isForbidden(thrown)) return { kind: 'refused', status: 403 };
    return { kind: 'unknown', reason: toAmbitError(thrown, 'KUBERNETES_API').message };
  }
}

/**
 * Does a pod of this spec belong on a node with these labels (nodeSelector and required node affinity, as the DaemonSet
 * controller asks)? What is not understood counts as yes: taking things off a node needs proof.
 */
export function selectsNode(podSpec: unknown, labels: Readonly<Record<string, string>>, nodeName: string): boolean {
  if (!isRecord(podSpec)) return true;
  if (isRecord(podSpec.nodeSelector)) {
    const matches = Object.entries(podSpec.nodeSelector).every(([key, value]) => labels[key] === value);
    if (!matches) return false;
  }
  const terms = requiredTerms(podSpec.affinity);
  return terms === undefined || terms.some((term) => matchesTerm(term, labels, nodeName));
}

function requiredTerms(affinity: unknown): readonly unknown[] | undefined {
  const node = isRecord(affinity) ? affinity.nodeAffinity : undefined;
  const required = isRecord(node) ? node.requiredDuringSchedulingIgnoredDuringExecution : undefined;
  const terms = isRecord(required) ? required.nodeSelectorTerms : undefined;
  return Array.isArray(terms) ? terms : undefined;
}

function matchesTerm(term: unknown, labels: Readonly<Record<string, string>>, nodeName: string): boolean {
  if (!isRecord(term)) return true;
  return (
    matchesExpressions(term.matchExpressions, labels) &&
    matchesExpressions(term.matchFields, { 'metadata.name': nodeName })
  );
}

function matchesExpressions(expressions: unknown, values: Readonly<Record<string, string>>): boolean {
  if (!Array.isArray(expressions)) return true;
  return expressions.every((expression: unknown) => {
    const selector = asSelector(expression);
    return selector === undefined || matchesSelector(selector, values);
  });
}

/** Undefined for what label selectors do not know (Gt, Lt). */
function asSelector(expression: unknown): LabelSelector | undefined {
  if (!isRecord(expression) || typeof expression.key !== 'string') return undefined;
  const { key, operator } = expression;
  const values = Array.isArray(expression.values) ? expression.values.filter((value) => typeof value === 'string') : [];
  switch (operator) {
    case 'In':
    case 'NotIn':
    case 'Exists':
    case 'DoesNotExist':
      return { matchExpressions: [{ key, operator, values }] };
    default:
      return undefined;
  }
}

function podSpecOf(daemonSet: KubeObject): unknown {
  const spec = isRecord(daemonSet.spec) ? daemonSet.spec : undefined;
  const template = isRecord(spec?.template) ? spec.template : undefined;
  return template?.spec;
}

function labelsOf({ metadata }: KubeObject): Record<string, string> {
  const labels: Record<string, string> = {};
  if (!isRecord(metadata.labels)) return labels;
  for (const [key, value] of Object.entries(metadata.labels)) if (typeof value === 'string') labels[key] = value;
  return labels;
}
