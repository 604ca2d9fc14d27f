/**
 * What the YAML files of the mesh folder ask for, as far as the sandbox plays scheduler, kubelet and kube-proxy: pods to
 * run, services to resolve, labels of namespaces. Policies are the control plane's business and are not read here.
 *
 * A file that does not parse, or an object that is wrong, is left out and reported; the others count.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { namespace as namespaceDecoder } from '../control/objects/cluster.ts';
import { pod as podDecoder } from '../control/objects/pod.ts';
import { type Service, service as serviceDecoder } from '../control/objects/service.ts';
import { decode, isRecord } from '../core/decoder.ts';
import { decideEligibility } from '../core/enrolment/eligibility.ts';
import { isNodeName, MESH_PODS, NODE_NAMES, type NodeName } from './layout.ts';
import { array, type ContainerSpec, decodeContainer } from './pod-template.ts';

const MAX_FILE_BYTES = 1024 * 1024;

/** A pod as its file describes it. */
export interface PodTemplate {
  readonly namespace: string;
  readonly name: string;
  readonly node: NodeName;
  readonly serviceAccount: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly container: ContainerSpec;
  /** Whether the labels of pod and namespace ask for the mesh. */
  readonly eligible: boolean;
  /** The whole object as it was written. */
  readonly object: Readonly<Record<string, unknown>>;
}

/** A pod before its namespace is known. */
type WrittenPod = Omit<PodTemplate, 'eligible'>;

export interface MeshFiles {
  readonly pods: readonly PodTemplate[];
  readonly services: readonly Service[];
  /** Labels by namespace. */
  readonly namespaces: ReadonlyMap<string, ReadonlyMap<string, string>>;
  /** `file: reason`, one per object that was left out. */
  readonly problems: readonly string[];
}

/** Reads every `.yaml` and `.yml` file below `folder`, in the order of their paths. */
export async function readMeshFiles(folder: string): Promise<MeshFiles> {
  const pods: WrittenPod[] = [];
  const services: Service[] = [];
  const namespaces = new Map<string, ReadonlyMap<string, string>>();
  const problems: string[] = [];
  for (const path of await listYamlFiles(folder)) {
    const report = (reason: string): void => {
      problems.push(`${path.slice(folder.length + 1)}: ${reason}`);
    };
    for (const object of parseObjects(await readFile(path, 'utf8'), report)) {
      if (object.kind === 'Pod') {
        if (path.startsWith(`${folder}/${MESH_PODS}/`)) readPod(object, pods, report);
        else report(`pods to run belong in the folder ${MESH_PODS}`);
      }
      if (object.kind === 'Service') take(decode(serviceDecoder, object), report, (value) => services.push(value));
      if (object.kind === 'Namespace') {
        take(decode(namespaceDecoder, object), report, ({ meta }) => namespaces.set(meta.name, meta.labels));
      }
    }
  }
  const judged = pods.map((pod) => ({ ...pod, eligible: isEligible(pod, namespaces.get(pod.namespace)) }));
  return { pods: judged, services, namespaces, problems };
}

function isEligible(pod: WrittenPod, namespaceLabels: ReadonlyMap<string, string> = new Map()): boolean {
  const facts = {
    namespace: pod.namespace,
    hostNetwork: false,
    labels: Object.fromEntries(pod.labels),
    annotations: {},
  };
  return decideEligibility(facts, Object.fromEntries(namespaceLabels)).kind === 'eligible';
}

/** A text that changes whenever a YAML file of the folder appears, changes or goes. */
export async function meshSignature(folder: string): Promise<string> {
  const parts: string[] = [];
  for (const path of await listYamlFiles(folder)) {
    const facts = await stat(path).catch(() => undefined);
    parts.push(`${path} ${facts?.mtimeMs} ${facts?.size} ${facts?.ino}`);
  }
  return parts.join('\n');
}

async function listYamlFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && /\.ya?ml$/.test(entry.name) && !entry.name.startsWith('.'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

function parseObjects(text: string, report: (reason: string) => void): Record<string, unknown>[] {
  if (text.length > MAX_FILE_BYTES) {
    report(`larger than ${MAX_FILE_BYTES} bytes`);
    return [];
  }
  const documents = parseAllDocuments(text);
  if (!Array.isArray(documents)) return [];
  return documents.flatMap((document) => {
    if (document.errors.length > 0) {
      report(document.errors[0]?.message ?? 'not YAML');
      return [];
    }
    const value: unknown = document.toJS({ maxAliasCount: 100 });
    return isRecord(value) ? [value] : [];
  });
}

function readPod(object: Record<string, unknown>, pods: WrittenPod[], report: (reason: string) => void): void {
  take(decode(podDecoder, object), report, (pod) => {
    const spec = isRecord(object.spec) ? object.spec : {};
    const selector = isRecord(spec.nodeSelector) ? spec.nodeSelector['kubernetes.io/hostname'] : undefined;
    const node = pod.nodeName || String(selector ?? '');
    if (!isNodeName(node)) {
      return report(`pod ${pod.meta.name}: nodeSelector kubernetes.io/hostname must be ${NODE_NAMES.join(' or ')}`);
    }
    const container = decodeContainer(array(spec.containers)[0]);
    if (container === undefined) return report(`pod ${pod.meta.name}: the first container needs a command`);
    pods.push({
      namespace: pod.meta.namespace,
      name: pod.meta.name,
      node,
      serviceAccount: pod.serviceAccount,
      labels: pod.meta.labels,
      container,
      object,
    });
  });
}

function take<T>(
  decoded: ReturnType<typeof decode<T>>,
  report: (reason: string) => void,
  use: (value: T) => void,
): void {
  if (decoded.ok) use(decoded.value);
  else report(decoded.problems.map((problem) => `${problem.path.join('.')} ${problem.reason}`).join('; '));
}
