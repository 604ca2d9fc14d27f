/** `metadata` of every object: the fields the mesh reads, with the name rules of Kubernetes (RFC 1123). */
import {
  boolean,
  type Decoder,
  integer,
  isRecord,
  list,
  mapped,
  object,
  optional,
  record,
  string,
  text,
  withDefault,
} from '../../core/decoder.ts';
import { EMPTY_MAP, interned, internedMap, internedOwner } from './intern.ts';

export interface ObjectMeta {
  readonly name: string;
  /** Empty for objects of the cluster (Namespace, Node). */
  readonly namespace: string;
  /** Empty where the source gives none (files). */
  readonly uid: string;
  /** Counts changes of the spec; 0 where the source gives none. */
  readonly generation: number;
  /** Of the version in which something that is read here changed last; empty in files. Says nothing about equality. */
  readonly resourceVersion: string;
  readonly labels: ReadonlyMap<string, string>;
  /** Those of the mesh (`istio.io`, `ambit.*`): others can be large and nobody reads them. */
  readonly annotations: ReadonlyMap<string, string>;
  /** Milliseconds since the epoch; Infinity where the source gives none, so that such objects count as youngest. */
  readonly createdMs: number;
  /** True from the moment the deletion was asked for. */
  readonly deleting: boolean;
  /** The controlling owner, if any. */
  readonly owner: { readonly kind: string; readonly name: string } | undefined;
}

const OBJECT_NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
const NAMESPACE_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export const objectName: Decoder<string> = text('a name of lower case letters, digits, "-" and "."', (value) =>
  OBJECT_NAME.test(value) ? value : undefined,
);

export const namespaceName: Decoder<string> = text(
  'a name of at most 63 lower case letters, digits and "-"',
  (value) => (NAMESPACE_NAME.test(value) ? value : undefined),
);

const timestamp: Decoder<number> = text('a time like 2026-01-31T12:00:00Z', (value) => {
  const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(ms) ? undefined : ms;
});

/** On pods that a kubelet made up to show what it runs of its own accord. */
export const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';
/** An annotation the mesh reads: of its own domains, and that of mirror pods. */
const MESH_ANNOTATION = /^(([-a-z0-9.]*\.)?(istio\.io|ambit(\.[-a-z0-9.]+)?)\/|kubernetes\.io\/config\.mirror$)/;

/** Annotations of others are not even looked at: they may be as large as an object may be. */
const annotations: Decoder<ReadonlyMap<string, string>> = (value, path, report) => {
  if (!isRecord(value)) return record(string)(value, path, report);
  const read: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(value)) if (MESH_ANNOTATION.test(key)) read[key] = entry;
  return record(string)(read, path, report);
};

const shape = {
  name: objectName,
  namespace: optional(namespaceName),
  uid: withDefault(string, ''),
  generation: withDefault(integer(0, Number.MAX_SAFE_INTEGER), 0),
  resourceVersion: withDefault(string, ''),
  labels: withDefault(record(string), EMPTY_MAP),
  annotations: withDefault(annotations, EMPTY_MAP),
  creationTimestamp: optional(timestamp),
  deletionTimestamp: optional(timestamp),
  ownerReferences: withDefault(
    list(object({ kind: string, name: string, controller: optional(boolean) }, 'ignore')),
    [],
  ),
};

/** `scope` decides what an absent namespace means: `default`, as for kubectl, or none. */
export function metadata(scope: 'namespaced' | 'cluster'): Decoder<ObjectMeta> {
  return mapped(object(shape, 'ignore'), (wire, path, report) => {
    if (scope === 'cluster' && wire.namespace !== undefined) {
      report([...path, 'namespace'], 'must be absent: objects of this kind have no namespace');
    }
    const owner = wire.ownerReferences.find((candidate) => candidate.controller === true);
    return {
      name: wire.name,
      namespace: interned(scope === 'cluster' ? '' : (wire.namespace ?? 'default')),
      uid: wire.uid,
      generation: wire.generation,
      resourceVersion: wire.resourceVersion,
      labels: internedMap(wire.labels),
      annotations: internedMap(wire.annotations),
      createdMs: wire.creationTimestamp ?? Number.POSITIVE_INFINITY,
      deleting: wire.deletionTimestamp !== undefined,
      owner: owner === undefined ? undefined : internedOwner(owner.kind, owner.name),
    };
  });
}

/** `spec.selector.matchLabels` of the policy kinds. Undefined: no selector. */
export const workloadSelector: Decoder<ReadonlyMap<string, string>> = mapped(
  object({ matchLabels: withDefault(record(string), new Map<string, string>()) }, 'refuse'),
  (wire, path, report) => {
    for (const [key, value] of wire.matchLabels) {
      if (key === '' || key.includes('*') || value.includes('*')) {
        report([...path, 'matchLabels', key], 'must be a whole label: wildcards do not work in selectors');
      }
    }
    return wire.matchLabels;
  },
);

/** True when `labels` carry every pair of `selector`. */
export function selects(selector: ReadonlyMap<string, string>, labels: ReadonlyMap<string, string>): boolean {
  for (const [key, value] of selector) if (labels.get(key) !== value) return false;
  return true;
}
