/**
 * The API server's part: the objects that exist because the sandbox schedules and runs pods. One YAML file per pod, for
 * the control plane and for the agents, which also need the labels of namespaces. Files are replaced in one step
 * (written beside, then renamed).
 */
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import { isRecord } from '../core/decoder.ts';
import { CLUSTER_DIRECTORY, POD_DIRECTORY } from './layout.ts';
import type { PodTemplate } from './mesh-files.ts';

/** Istio's annotation that says a pod's traffic goes through its node's agent. */
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';

export interface PodStatus {
  readonly uid: string;
  /** Absent until the network is there. */
  readonly ip?: string;
  readonly enrolled: boolean;
  readonly ready: boolean;
  readonly startedAt: string;
}

/** Writes (or replaces) the pod with its status. */
export async function writePodObject(template: PodTemplate, status: PodStatus): Promise<void> {
  const text = stringify(podObject(template, status));
  await replaceFile(`${POD_DIRECTORY}/${fileName(template)}`, text);
  await replaceFile(`${CLUSTER_DIRECTORY}/${fileName(template)}`, text);
}

export async function removePodObject(template: PodTemplate): Promise<void> {
  await rm(`${CLUSTER_DIRECTORY}/${fileName(template)}`, { force: true });
  await rm(`${POD_DIRECTORY}/${fileName(template)}`, { force: true });
}

/** Makes the folders; an empty cluster has no namespaces. */
export async function openClusterFiles(): Promise<void> {
  await mkdir(CLUSTER_DIRECTORY, { recursive: true });
  await mkdir(POD_DIRECTORY, { recursive: true });
}

/** Labels of all namespaces, for the agents. */
export async function writeNamespaces(namespaces: ReadonlyMap<string, ReadonlyMap<string, string>>): Promise<void> {
  const documents = [...namespaces].map(([name, labels]) =>
    stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: Object.fromEntries(labels) } }),
  );
  await replaceFile(`${POD_DIRECTORY}/namespaces.yaml`, documents.join('---\n'));
}

/** The object as an API server would show it. Pure. */
export function podObject(template: PodTemplate, status: PodStatus): Record<string, unknown> {
  const metadata = isRecord(template.object.metadata) ? template.object.metadata : {};
  const annotations = isRecord(metadata.annotations) ? { ...metadata.annotations } : {};
  if (status.enrolled) annotations[REDIRECTION_ANNOTATION] = 'enabled';
  const spec = isRecord(template.object.spec) ? template.object.spec : {};
  const address = status.ip === undefined ? {} : { podIP: status.ip, podIPs: [{ ip: status.ip }] };
  return {
    ...template.object,
    metadata: {
      ...metadata,
      namespace: template.namespace,
      uid: status.uid,
      creationTimestamp: status.startedAt,
      annotations,
    },
    spec: { ...spec, nodeName: template.node },
    status: {
      phase: status.ip === undefined ? 'Pending' : 'Running',
      ...address,
      conditions: [{ type: 'Ready', status: status.ready ? 'True' : 'False' }],
    },
  };
}

function fileName(template: PodTemplate): string {
  return `${template.namespace}-${template.name}.yaml`;
}

/** Watchers read `.yaml` files only, so they never see the half-written one. */
async function replaceFile(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
}
