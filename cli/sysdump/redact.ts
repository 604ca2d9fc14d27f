/**
 * What may leave the cluster in a sysdump. Two nets: objects are reduced to what a question about the mesh needs before they
 * are written, and every text is searched for keys and tokens on its way out. Pure.
 */
import { isRecord } from '../../core/decoder.ts';

type Fields = Readonly<Record<string, unknown>>;

const SECRETS: readonly (readonly [pattern: RegExp, instead: string])[] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g, '[private key removed]'],
  // The same in base64: BEGIN PRIVATE, BEGIN EC P, BEGIN RSA, BEGIN ENCRYPTED.
  [/LS0tLS1CRUdJTi(BQUklW|BFQyBQ|BSU0Eg|BFTkNSWVBU)[A-Za-z0-9+/=]*/g, '[private key removed]'],
  [/\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*/g, '[token removed]'],
  [/\b([Bb]earer) +[A-Za-z0-9._~+/=-]{8,}/g, '$1 [token removed]'],
];

/** The text without private keys and tokens. */
export function redact(text: string): string {
  return SECRETS.reduce((rest, [pattern, instead]) => rest.replaceAll(pattern, instead), text);
}

/** Names of variables whose values nobody else may see. */
const SECRET_NAME = /token|secret|password|passwd|credential|key/i;
const HIDDEN = '[removed]';
/** Annotations that may hold a whole object of somebody, with everything in it. */
const LONG_ANNOTATIONS: ReadonlySet<string> = new Set(['kubectl.kubernetes.io/last-applied-configuration']);

/** An object of the mesh: everything but the bookkeeping of the API server and values of variables that sound secret. */
export function ownObject(value: unknown): unknown {
  if (!isRecord(value)) return value;
  return { ...value, metadata: leanMetadata(value.metadata), spec: hideValues(value.spec) };
}

/** A pod or node of somebody else: what decides about it in the mesh. Variables, commands and volumes are not part of it. */
export function foreignObject(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const spec: Fields = isRecord(value.spec) ? value.spec : {};
  const kept = pick(spec, [
    'nodeName',
    'hostNetwork',
    'serviceAccountName',
    'taints',
    'podCIDRs',
    'unschedulable',
    'dnsPolicy',
  ]);
  const containers = (key: string): unknown =>
    Array.isArray(spec[key])
      ? spec[key].map((one) =>
          isRecord(one)
            ? pick(one, ['name', 'image', 'ports', 'readinessProbe', 'livenessProbe', 'startupProbe'])
            : one,
        )
      : undefined;
  return {
    ...pick(value, ['apiVersion', 'kind', 'status']),
    metadata: leanMetadata(value.metadata),
    spec: { ...kept, containers: containers('containers'), initContainers: containers('initContainers') },
  };
}

function leanMetadata(metadata: unknown): unknown {
  if (!isRecord(metadata)) return metadata;
  const { managedFields: _, annotations, ...rest } = metadata;
  if (!isRecord(annotations)) return rest;
  return {
    ...rest,
    annotations: Object.fromEntries(Object.entries(annotations).filter(([name]) => !LONG_ANNOTATIONS.has(name))),
  };
}

/** `{ name, value }` pairs at any depth. */
function hideValues(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(hideValues);
  if (!isRecord(value)) return value;
  const { name } = value;
  const secret = typeof name === 'string' && SECRET_NAME.test(name) && typeof value.value === 'string';
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key, secret && key === 'value' ? HIDDEN : hideValues(entry)]),
  );
}

function pick(value: Fields, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.flatMap((name) => (value[name] === undefined ? [] : [[name, value[name]]])));
}
