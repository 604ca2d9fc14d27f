/**
 * Reads Kubernetes Pod and Namespace objects out of YAML text. Pure. Other kinds are skipped; an object that is not well
 * formed is a problem in words, with its line, and does not hide the others of the file.
 */
import { isMap, LineCounter, parseAllDocuments } from 'yaml';
import type { Labels } from '../../core/enrolment/label-selector.ts';
import { type IpAddress, parseIp } from '../../core/ip.ts';
import type { NamespaceFacts, PodFacts } from './pod-directory.ts';

export interface ObjectProblem {
  readonly line: number;
  readonly reason: string;
}

export interface PodObjects {
  readonly pods: readonly PodFacts[];
  readonly namespaces: readonly NamespaceFacts[];
  readonly problems: readonly ObjectProblem[];
}

const MAX_TEXT = 1024 * 1024;

export function readPodObjects(text: string): PodObjects {
  if (text.length > MAX_TEXT)
    return { pods: [], namespaces: [], problems: [{ line: 1, reason: `larger than ${MAX_TEXT} characters` }] };
  const pods: PodFacts[] = [];
  const namespaces: NamespaceFacts[] = [];
  const problems: ObjectProblem[] = [];
  const lines = new LineCounter();
  for (const document of parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, logLevel: 'silent' })) {
    const line = lines.linePos(document.contents?.range?.[0] ?? document.range[0]).line;
    const [error] = document.errors;
    if (error !== undefined) {
      problems.push({ line: lines.linePos(error.pos[0]).line, reason: `not YAML: ${error.message}` });
      continue;
    }
    if (!isMap(document.contents)) continue;
    try {
      const object: unknown = document.toJS({ maxAliasCount: 16 });
      const kind = field(object, 'kind');
      if (kind === 'Pod') pods.push(podFacts(object));
      if (kind === 'Namespace')
        namespaces.push({ name: name(object), labels: strings(field(object, 'metadata'), 'labels') });
    } catch (thrown) {
      problems.push({ line, reason: thrown instanceof Error ? thrown.message : String(thrown) });
    }
  }
  return { pods, namespaces, problems };
}

function podFacts(object: unknown): PodFacts {
  const metadata = field(object, 'metadata');
  const spec = field(object, 'spec');
  return {
    namespace: optionalText(metadata, 'namespace') ?? 'default',
    name: name(object),
    uid: optionalText(metadata, 'uid'),
    nodeName: optionalText(spec, 'nodeName'),
    serviceAccount: optionalText(spec, 'serviceAccountName') ?? 'default',
    hostNetwork: field(spec, 'hostNetwork') === true,
    labels: strings(metadata, 'labels'),
    annotations: strings(metadata, 'annotations'),
    ips: addresses(field(object, 'status')),
  };
}

function name(object: unknown): string {
  const value = optionalText(field(object, 'metadata'), 'name');
  if (value === undefined) throw new Error('metadata.name is missing');
  return value;
}

/** `status.podIPs`, or `status.podIP` where only that is given. */
function addresses(status: unknown): IpAddress[] {
  const several = field(status, 'podIPs');
  const list: unknown[] = Array.isArray(several)
    ? several.map((entry) => field(entry, 'ip'))
    : [field(status, 'podIP')];
  return list.flatMap((entry) => (typeof entry === 'string' ? (parseIp(entry) ?? []) : []));
}

/** A map of texts without a prototype: keys come from outside. */
function strings(parent: unknown, key: string): Labels {
  const value = field(parent, key);
  const result: Record<string, string> = Object.create(null);
  if (value === undefined || value === null) return result;
  if (typeof value !== 'object' || Array.isArray(value)) throw new Error(`metadata.${key} must be a map`);
  for (const [label, entry] of Object.entries(value)) {
    if (typeof entry !== 'string') throw new Error(`metadata.${key}.${label} must be text (put it in quotes)`);
    result[label] = entry;
  }
  return result;
}

function optionalText(parent: unknown, key: string): string | undefined {
  const value = field(parent, key);
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw new Error(`${key} must be text`);
  return value;
}

function field(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Reflect.get(value, key);
}
