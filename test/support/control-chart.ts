/**
 * The chart of the control plane as it is rendered and applied: by the real helm, to a real API server. What tests run is
 * therefore what users install: the same rights, the same environment.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { chartFolder, UMBRELLA } from '../../scripts/generate-charts.ts';
import { clusterBinary } from './cluster-binaries.ts';
import type { KubeApi } from './kube-api.ts';
import { KubeApiRefusal, textAt, valueAt } from './kube-api-call.ts';
import { ROOT } from './source-files.ts';

export const MESH_NAMESPACE = 'istio-system';

/** Every object of a rendered chart: a part, or `ambit`, the whole. `values`: as `--set`. Throws with helm's words. */
export function renderChart(chart: string, values: readonly string[] = []): unknown[] {
  const folder = join(ROOT, chart === 'ambit' ? UMBRELLA : chartFolder(chart));
  const args = ['template', chart, folder, '--namespace', MESH_NAMESPACE];
  const text = execFileSync(
    clusterBinary('helm'),
    [...args, '--kube-version', '1.34.0', ...values.flatMap((value) => ['--set', value])],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 16 << 20 },
  );
  return parseAllDocuments(text)
    .map((document): unknown => document.toJS())
    .filter((object) => object !== null);
}

export function objectOfKind(objects: readonly unknown[], kind: string): unknown {
  const found = objects.find((object) => textAt(object, 'kind') === kind);
  if (found === undefined) throw new Error(`the chart has no ${kind}`);
  return found;
}

/** The environment of the only container of a workload; references to fields of the pod are left out. */
export function environmentOf(objects: readonly unknown[], kind = 'Deployment'): Map<string, string> {
  const env = valueAt(objectOfKind(objects, kind), 'spec', 'template', 'spec', 'containers', 0, 'env');
  const variables = Array.isArray(env) ? env : [];
  return new Map(
    variables.flatMap((variable: unknown): [string, string][] =>
      valueAt(variable, 'value') === undefined ? [] : [[textAt(variable, 'name'), textAt(variable, 'value')]],
    ),
  );
}

/** Plurals and API paths of what the chart contains. */
const COLLECTIONS: Readonly<Record<string, string>> = {
  ServiceAccount: 'serviceaccounts',
  Service: 'services',
  ConfigMap: 'configmaps',
  Deployment: 'deployments',
  PodDisruptionBudget: 'poddisruptionbudgets',
  NetworkPolicy: 'networkpolicies',
  ClusterRole: 'clusterroles',
  ClusterRoleBinding: 'clusterrolebindings',
  Role: 'roles',
  RoleBinding: 'rolebindings',
  CustomResourceDefinition: 'customresourcedefinitions',
  ValidatingWebhookConfiguration: 'validatingwebhookconfigurations',
  DaemonSet: 'daemonsets',
  ResourceQuota: 'resourcequotas',
};

function collectionOf(object: unknown): string {
  const plural = COLLECTIONS[textAt(object, 'kind')];
  if (plural === undefined) throw new Error(`${textAt(object, 'kind')} is not known here`);
  const version = textAt(object, 'apiVersion');
  const namespace = textAt(object, 'metadata', 'namespace');
  const root = version.includes('/') ? `/apis/${version}` : `/api/${version}`;
  return namespace === '' ? `${root}/${plural}` : `${root}/namespaces/${namespace}/${plural}`;
}

/** Creates objects, in the order of the chart. `Strict`: fields that the server does not know are errors. */
export async function createObjects(
  api: KubeApi,
  objects: readonly unknown[],
  validation: 'Strict' | 'Warn' = 'Warn',
): Promise<void> {
  for (const object of objects) {
    await api.call('POST', `${collectionOf(object)}?fieldValidation=${validation}`, object);
  }
}

/**
 * Installs what the chart installs except the Deployment, which nobody would run here, and with a webhook that is asked
 * about nothing, since no Service leads to it. Returns all that was rendered.
 */
export async function installControlChart(api: KubeApi, values: readonly string[] = []): Promise<unknown[]> {
  const objects = renderChart('ambit-control', values);
  await api.namespace(MESH_NAMESPACE).catch((thrown: unknown) => {
    if (!(thrown instanceof KubeApiRefusal && thrown.reason === 'AlreadyExists')) throw thrown;
  });
  const applied = objects.filter((object) => textAt(object, 'kind') !== 'Deployment').map(withoutWebhookRules);
  await createObjects(api, applied);
  return objects;
}

function withoutWebhookRules(object: unknown): unknown {
  if (textAt(object, 'kind') !== 'ValidatingWebhookConfiguration') return object;
  return JSON.parse(
    JSON.stringify(object, (key, value: unknown) => (key === 'apiGroups' ? ['nothing.example.com'] : value)),
  );
}
