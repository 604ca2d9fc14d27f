/**
 * The ValidatingWebhookConfiguration: which requests the API server asks about, and what it does when nobody answers.
 *
 * Only kinds of ours are in scope, never pods or anything else that the cluster needs to run. Two entries with the same
 * rules: namespaces get the failure policy of the operator; the namespace of the mesh itself always gets `Ignore`, so that
 * whoever repairs the mesh is never locked out by the part that is broken; kube-system is left alone.
 */
import { isRecord } from '../../core/decoder.ts';

export type FailurePolicy = 'Fail' | 'Ignore';

export const WEBHOOK_CONFIGURATION_NAME = 'ambit-validation';
export const WEBHOOK_PATH = '/validate';
/** Names of the two entries; the API server shows them in refusals. */
const WEBHOOK_NAME = 'validation.ambit.io';
const OWN_NAMESPACE_WEBHOOK_NAME = 'own-namespace.validation.ambit.io';
const NAME_LABEL = 'kubernetes.io/metadata.name';
/** Namespaces that are never asked about. */
const EXEMPT_NAMESPACES: readonly string[] = ['kube-system'];
const TIMEOUT_SECONDS = 5;

export interface WebhookConfigurationOptions {
  /** Namespace of the control plane, which is the root namespace of the mesh. */
  readonly namespace: string;
  /** Name of the Service in it; or the URL of the webhook, where there is no Service. */
  readonly target: { readonly service: string; readonly port?: number } | { readonly url: string };
  /** Roots that the certificate of the webhook can be verified with, PEM; absent: none yet, the leader writes them. */
  readonly caBundlePem?: string;
  readonly failurePolicy: FailurePolicy;
  readonly labels?: Readonly<Record<string, string>>;
}

export function webhookConfiguration(options: WebhookConfigurationOptions): Record<string, unknown> {
  const { namespace, target, caBundlePem, failurePolicy, labels } = options;
  const caBundle = caBundlePem === undefined ? {} : { caBundle: encodeBundle(caBundlePem) };
  const clientConfig =
    'url' in target
      ? { url: `${target.url}${WEBHOOK_PATH}`, ...caBundle }
      : { service: { name: target.service, namespace, port: target.port ?? 443, path: WEBHOOK_PATH }, ...caBundle };
  const entry = (name: string, policy: FailurePolicy, operator: 'In' | 'NotIn', values: readonly string[]) => ({
    name,
    clientConfig,
    rules: [
      rule('security.istio.io', ['authorizationpolicies', 'peerauthentications']),
      rule('networking.istio.io', ['serviceentries', 'workloadentries']),
    ],
    failurePolicy: policy,
    matchPolicy: 'Equivalent',
    namespaceSelector: { matchExpressions: [{ key: NAME_LABEL, operator, values }] },
    sideEffects: 'None',
    timeoutSeconds: TIMEOUT_SECONDS,
    admissionReviewVersions: ['v1'],
  });
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name: WEBHOOK_CONFIGURATION_NAME, ...(labels === undefined ? {} : { labels }) },
    webhooks: [
      entry(WEBHOOK_NAME, failurePolicy, 'NotIn', [namespace, ...EXEMPT_NAMESPACES]),
      entry(OWN_NAMESPACE_WEBHOOK_NAME, 'Ignore', 'In', [namespace]),
    ],
  };
}

/**
 * A JSON patch that gives every entry of the configuration these roots, guarded by the version it was made from;
 * undefined when all have them. Total: what does not look like a configuration needs no patch.
 */
export function caBundlePatch(configuration: unknown, caBundlePem: string): readonly unknown[] | undefined {
  if (!isRecord(configuration) || !Array.isArray(configuration.webhooks)) return undefined;
  const wanted = encodeBundle(caBundlePem);
  const stale = configuration.webhooks.flatMap((webhook: unknown, index) => {
    const client = isRecord(webhook) ? webhook.clientConfig : undefined;
    return isRecord(client) && client.caBundle !== wanted ? [index] : [];
  });
  if (stale.length === 0) return undefined;
  const { metadata } = configuration;
  const version = isRecord(metadata) ? metadata.resourceVersion : undefined;
  const guard = typeof version === 'string' ? [{ op: 'test', path: '/metadata/resourceVersion', value: version }] : [];
  return [
    ...guard,
    ...stale.map((index) => ({ op: 'add', path: `/webhooks/${index}/clientConfig/caBundle`, value: wanted })),
  ];
}

function rule(apiGroup: string, resources: readonly string[]) {
  return {
    apiGroups: [apiGroup],
    apiVersions: ['*'],
    operations: ['CREATE', 'UPDATE'],
    resources,
    scope: 'Namespaced',
  };
}

function encodeBundle(pem: string): string {
  return Buffer.from(pem).toString('base64');
}
