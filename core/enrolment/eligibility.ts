/**
 * Should this pod be in the mesh? The one pure answer, used by the agent, the control plane and the CLI.
 *
 * Order of the tests (Istio's, so that the same labels mean the same): excluded namespace, host network, injected
 * sidecar, then the enablement selectors. With the default selectors the pod's label overrides the namespace's both ways.
 */
import { AmbitError } from '../errors.ts';
import { type LabelSelector, type Labels, matchesSelector, validateSelector } from './label-selector.ts';

export const DATAPLANE_MODE_LABEL = 'istio.io/dataplane-mode';
export const SIDECAR_STATUS_ANNOTATION = 'sidecar.istio.io/status';
/** Namespaces that are never enrolled unless the operator says otherwise. */
export const DEFAULT_EXCLUDED_NAMESPACES: readonly string[] = ['kube-system'];

/** What the decision reads of a pod. */
export interface EligibilityPod {
  readonly namespace: string;
  readonly hostNetwork: boolean;
  readonly labels: Labels;
  readonly annotations: Labels;
}

/** One way into the mesh: both selectors must match; an absent selector matches everything. */
export interface EnablementSelector {
  readonly podSelector?: LabelSelector;
  readonly namespaceSelector?: LabelSelector;
}

export interface EligibilitySettings {
  readonly excludedNamespaces: ReadonlySet<string>;
  /** Any of them suffices. */
  readonly selectors: readonly EnablementSelector[];
}

export const DEFAULT_SELECTORS: readonly EnablementSelector[] = [
  { podSelector: { matchLabels: { [DATAPLANE_MODE_LABEL]: 'ambient' } } },
  {
    namespaceSelector: { matchLabels: { [DATAPLANE_MODE_LABEL]: 'ambient' } },
    podSelector: { matchExpressions: [{ key: DATAPLANE_MODE_LABEL, operator: 'NotIn', values: ['none'] }] },
  },
];

export const DEFAULT_ELIGIBILITY: EligibilitySettings = {
  excludedNamespaces: new Set(DEFAULT_EXCLUDED_NAMESPACES),
  selectors: DEFAULT_SELECTORS,
};

export type IneligibleReason = 'excludedNamespace' | 'hostNetwork' | 'sidecar' | 'optedOut' | 'notSelected';

export type Eligibility =
  | { readonly kind: 'eligible'; readonly detail: string }
  | { readonly kind: 'ineligible'; readonly reason: IneligibleReason; readonly detail: string };

/**
 * The verdict for one pod and the labels of its namespace. `detail` is a sentence for the operator.
 * A pod label `istio.io/dataplane-mode=none` is reported as `optedOut`, anything else that no selector matches as `notSelected`.
 */
export function decideEligibility(
  pod: EligibilityPod,
  namespaceLabels: Labels,
  settings: EligibilitySettings = DEFAULT_ELIGIBILITY,
): Eligibility {
  if (settings.excludedNamespaces.has(pod.namespace)) {
    return ineligible('excludedNamespace', `namespace ${pod.namespace} is excluded from the mesh`);
  }
  if (pod.hostNetwork) return ineligible('hostNetwork', 'the pod uses the network of its node');
  if (pod.annotations[SIDECAR_STATUS_ANNOTATION] !== undefined) {
    return ineligible('sidecar', `annotation ${SIDECAR_STATUS_ANNOTATION} says that a sidecar was injected`);
  }
  for (const selector of settings.selectors) {
    const podMatches = selector.podSelector === undefined || matchesSelector(selector.podSelector, pod.labels);
    const namespaceMatches =
      selector.namespaceSelector === undefined || matchesSelector(selector.namespaceSelector, namespaceLabels);
    if (podMatches && namespaceMatches)
      return { kind: 'eligible', detail: describeMatch(selector, pod, namespaceLabels) };
  }
  if (pod.labels[DATAPLANE_MODE_LABEL] === 'none') {
    return ineligible('optedOut', `pod label ${DATAPLANE_MODE_LABEL}=none`);
  }
  return ineligible('notSelected', `neither the pod nor namespace ${pod.namespace} is labelled for the mesh`);
}

/** Settings from operator input; throws `CONFIGURATION` naming the first selector that is not well formed. */
export function eligibilitySettings(
  excludedNamespaces: readonly string[],
  selectors: readonly EnablementSelector[] = DEFAULT_SELECTORS,
): EligibilitySettings {
  selectors.forEach((selector, index) => {
    for (const part of [selector.podSelector, selector.namespaceSelector]) {
      const problem = part === undefined ? undefined : validateSelector(part);
      if (problem !== undefined) throw new AmbitError('CONFIGURATION', `enablement selector ${index + 1}: ${problem}`);
    }
  });
  return {
    excludedNamespaces: new Set(excludedNamespaces.map((name) => name.trim()).filter((name) => name !== '')),
    selectors,
  };
}

function ineligible(reason: IneligibleReason, detail: string): Eligibility {
  return { kind: 'ineligible', reason, detail };
}

function describeMatch(selector: EnablementSelector, pod: EligibilityPod, namespaceLabels: Labels): string {
  if (selector.podSelector?.matchLabels?.[DATAPLANE_MODE_LABEL] !== undefined) {
    return `pod label ${DATAPLANE_MODE_LABEL}=${pod.labels[DATAPLANE_MODE_LABEL] ?? ''}`;
  }
  if (selector.namespaceSelector?.matchLabels?.[DATAPLANE_MODE_LABEL] !== undefined) {
    return `namespace label ${DATAPLANE_MODE_LABEL}=${namespaceLabels[DATAPLANE_MODE_LABEL] ?? ''}`;
  }
  return 'an enablement selector of the configuration matches';
}
