/**
 * Plain values (documents of files, answers of the API server) -> what the checks look at. Pure and total: what cannot be
 * read becomes a finding (AMB0101), what is of no kind that matters is left out.
 */
import { type Decoder, decode, type FieldProblem, isRecord } from '../../core/decoder.ts';
import { ObjectStore } from '../model/object-store.ts';
import { decodeObject, identify, type MeshObject, objectKey } from '../objects/object.ts';
import { pod } from '../objects/pod.ts';
import { standInFor } from '../objects/policy-stand-in.ts';
import { formatPath } from '../sources/yaml-objects.ts';
import { type Finding, finding } from './finding.ts';
import { type NetworkPolicy, networkPolicy } from './network-policy.ts';
import { type AnalysisSettings, AnalysisView, type Workload } from './view.ts';

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

/** @param complete see `ViewParts` */
export function collect(values: Iterable<unknown>, complete: boolean, settings?: AnalysisSettings): Collection {
  const objects = new Map<string, MeshObject>();
  const templates: Workload[] = [];
  const networkPolicies: NetworkPolicy[] = [];
  const findings: Finding[] = [];
  let count = 0;
  const read = <T>(key: string, decoder: Decoder<T>, value: unknown): T | undefined => {
    count++;
    const decoded = decode(decoder, value);
    if (decoded.ok) return decoded.value;
    findings.push(...unreadable(key, decoded.problems));
    return undefined;
  };
  for (const value of values) {
    if (!isRecord(value) || !isRecord(value.metadata)) continue;
    const { kind, metadata } = value;
    const { name, namespace = 'default' } = metadata;
    if (typeof name !== 'string' || typeof namespace !== 'string' || typeof kind !== 'string') continue;
    const key = `${kind}/${namespace}/${name}`;
    const path = TEMPLATES.get(kind);
    if (kind === 'NetworkPolicy' && value.apiVersion === 'networking.k8s.io/v1') {
      const policy = read(key, networkPolicy, value);
      if (policy !== undefined) networkPolicies.push(policy);
    } else if (path !== undefined) {
      const workload = read(key, templateOf(kind, path, name, namespace), value);
      if (workload !== undefined) templates.push(workload);
    } else {
      const identity = identify(value);
      if (identity.kind !== 'known') continue;
      count++;
      const decoded = decodeObject(identity.row, value);
      const object = decoded.ok ? decoded.value : standInFor(identity.row.kind, value, '');
      if (!decoded.ok) findings.push(...unreadable(identity.key, decoded.problems));
      if (object !== undefined) objects.set(objectKey(object), object);
    }
  }
  const store = new ObjectStore();
  store.apply({ upserted: [...objects.values()], removed: [] });
  const parts = {
    objects: store,
    templates,
    networkPolicies,
    complete,
    ...(settings === undefined ? {} : { settings }),
  };
  return { view: new AnalysisView(parts), findings, count };
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
