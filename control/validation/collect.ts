/**
 * Plain values (documents of files, answers of the API server) -> what the checks look at. Pure and total: what cannot be
 * read becomes a finding (AMB0101), what is of no kind that matters is left out.
 */
import { type Decoder, decode, type FieldProblem, isRecord, record, string } from '../../core/decoder.ts';
import { ObjectStore } from '../model/object-store.ts';
import { decodeObject, identify, type MeshObject, objectKey } from '../objects/object.ts';
import { pod } from '../objects/pod.ts';
import { standInFor } from '../objects/policy-stand-in.ts';
import { formatPath } from '../sources/yaml-objects.ts';
import { checkControllerLabels } from './checks/labels.ts';
import { type Finding, finding } from './finding.ts';
import { type NetworkPolicy, networkPolicy } from './network-policy.ts';
import { type AnalysisSettings, AnalysisView, type ViewParts, type Workload } from './view.ts';

export interface Collection {
  readonly view: AnalysisView;
  /** About what could not be read. */
  readonly findings: readonly Finding[];
  /** Objects of kinds that checks know. */
  readonly count: number;
}

/** Controllers to the path of their pod template. */
const TEMPLATES: ReadonlyMap<string, readonly string[]> = new Map([
  ['Deployment', ['spec', 'template']],
  ['StatefulSet', ['spec', 'template']],
  ['DaemonSet', ['spec', 'template']],
  ['ReplicaSet', ['spec', 'template']],
  ['Job', ['spec', 'template']],
  ['CronJob', ['spec', 'jobTemplate', 'spec', 'template']],
]);

/** Takes values one by one, so that a large cluster need not be in memory as plain values. */
export class Collector {
  readonly #objects = new Map<string, MeshObject>();
  readonly #templates: Workload[] = [];
  readonly #networkPolicies: NetworkPolicy[] = [];
  readonly #findings: Finding[] = [];
  #count = 0;

  /** The key of the object where it is of a kind that checks know. */
  add(value: unknown): string | undefined {
    if (!isRecord(value) || !isRecord(value.metadata)) return undefined;
    const { kind, metadata } = value;
    const { name, namespace = 'default' } = metadata;
    if (typeof name !== 'string' || typeof namespace !== 'string' || typeof kind !== 'string') return undefined;
    const key = `${kind}/${namespace}/${name}`;
    const path = TEMPLATES.get(kind);
    if (kind === 'NetworkPolicy' && value.apiVersion === 'networking.k8s.io/v1') {
      const policy = this.#read(key, networkPolicy, value);
      if (policy !== undefined) this.#networkPolicies.push(policy);
      return key;
    }
    if (path !== undefined) {
      const workload = this.#read(key, templateOf(kind, path, name, namespace), value);
      if (workload === undefined) return key;
      this.#templates.push(workload);
      this.#checkController(key, metadata.labels, workload.labels);
      return key;
    }
    const identity = identify(value);
    if (identity.kind !== 'known') return undefined;
    this.#count++;
    const decoded = decodeObject(identity.row, value);
    if (!decoded.ok) this.#findings.push(...unreadable(identity.key, decoded.problems));
    // What is in force in its place is what the checks of others meet.
    const object = decoded.ok ? decoded.value : standInFor(identity.row.kind, value, 'cannot be read');
    if (object !== undefined) this.#objects.set(objectKey(object), object);
    return identity.key;
  }

  /** Looks at the labels of a Deployment, DaemonSet, ... only; its pods are objects of their own. */
  addController(value: unknown): void {
    if (!isRecord(value) || !isRecord(value.metadata) || typeof value.kind !== 'string') return;
    const { name, namespace } = value.metadata;
    const path = TEMPLATES.get(value.kind);
    if (typeof name !== 'string' || typeof namespace !== 'string' || path === undefined) return;
    const template = decode(templateOf(value.kind, path, name, namespace), value);
    if (!template.ok) return;
    this.#checkController(`${value.kind}/${namespace}/${name}`, value.metadata.labels, template.value.labels);
  }

  /** @param complete see `ViewParts` */
  finish(parts: Pick<ViewParts, 'complete' | 'settings' | 'unknownKinds'>): Collection {
    const objects = new ObjectStore();
    objects.apply({ upserted: [...this.#objects.values()], removed: [] });
    const view = new AnalysisView({
      ...parts,
      objects,
      templates: this.#templates,
      networkPolicies: this.#networkPolicies,
    });
    return { view, findings: this.#findings, count: this.#count };
  }

  #checkController(key: string, value: unknown, template: ReadonlyMap<string, string>): void {
    const labels = decode(record(string), value);
    if (labels.ok) this.#findings.push(...checkControllerLabels(key, labels.value, template));
  }

  #read<T>(key: string, decoder: Decoder<T>, value: unknown): T | undefined {
    this.#count++;
    const decoded = decode(decoder, value);
    if (decoded.ok) return decoded.value;
    this.#findings.push(...unreadable(key, decoded.problems));
    return undefined;
  }
}

/** All at once. */
export function collect(values: Iterable<unknown>, complete: boolean, settings?: AnalysisSettings): Collection {
  const collector = new Collector();
  for (const value of values) collector.add(value);
  return collector.finish({ complete, ...(settings === undefined ? {} : { settings }) });
}

/** One finding per field that cannot be read. */
export function unreadable(key: string, problems: readonly FieldProblem[]): Finding[] {
  return problems.map(({ path, reason }) => {
    const withoutSelector = path.at(-1) === 'portLevelMtls' && reason.startsWith('needs a selector');
    return finding(withoutSelector ? 'AMB0302' : 'AMB0101', { object: key, field: formatPath(path) }, reason);
  });
}

/** The template read as the pod it becomes. */
function templateOf(kind: string, path: readonly string[], name: string, namespace: string): Decoder<Workload> {
  return (value, at, report) => {
    let template: unknown = value;
    for (const step of path) template = isRecord(template) ? template[step] : undefined;
    const metadata = isRecord(template) && isRecord(template.metadata) ? template.metadata : {};
    const spec = isRecord(template) ? template.spec : undefined;
    const decoded = pod({ metadata: { ...metadata, name, namespace }, spec }, [...at, ...path], report);
    if (decoded === undefined) return undefined;
    const { labels, annotations } = decoded.meta;
    const { serviceAccount, hostNetwork } = decoded;
    const owner = `${kind}/${namespace}/${name}`;
    return { kind, namespace, name, labels, annotations, serviceAccount, hostNetwork, owner };
  };
}
