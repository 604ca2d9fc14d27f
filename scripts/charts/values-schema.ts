/**
 * The JSON schema of a chart's values, from its values.yaml: names and types. Helm refuses what the schema does not know, so
 * that a misspelt value is an error and not a silence. Maps that are empty in values.yaml, and those whose content
 * Kubernetes defines, may hold anything.
 */
import { isMap, isScalar, isSeq, parseDocument } from 'yaml';

export type Schema = { readonly [key: string]: unknown };

export interface SchemaOptions {
  /** values.yaml of the chart. */
  readonly values: string;
  /** What `global` may hold in any chart: an umbrella passes it down to all. */
  readonly global: Schema;
  /** Names that `env` may hold; undefined where the chart has no `env`. */
  readonly environment: readonly string[] | undefined;
  readonly notice: string;
}

/** Their content is defined by Kubernetes or by MeshConfig. */
const OPEN: ReadonlySet<string> = new Set([
  'appArmorProfile',
  'meshConfig',
  'nodeSelector',
  'resources',
  'rollingUpdate',
  'seccompProfile',
]);
const CHOICES: ReadonlyMap<string, readonly string[]> = new Map([
  ['configValidation.failurePolicy', ['Ignore', 'Fail']],
  ['global.imagePullPolicy', ['Always', 'IfNotPresent', 'Never']],
  ['global.resourceScope', ['all', 'cluster', 'namespace']],
  ['global.platform', ['', 'gke', 'openshift', 'k3s', 'k3d', 'microk8s', 'minikube', 'kind', 'eks', 'aks']],
  ['logLevel', ['trace', 'debug', 'info', 'warn', 'error', 'fatal']],
  ['outboundPolicy', ['ALLOW_ANY', 'REGISTRY_ONLY']],
  ['updateStrategy.type', ['RollingUpdate', 'OnDelete']],
]);
/** Absolute paths, or nothing. */
const PATHS: ReadonlySet<string> = new Set(['cniBinDir', 'cniConfDir', 'cniNetnsDir']);
/** Texts that people write as numbers or without quotes. */
const SCALARS: ReadonlySet<string> = new Set(['global.tag', 'rollingMaxSurge', 'rollingMaxUnavailable', 'workers']);

export function valuesSchema({ values, global, environment, notice }: SchemaOptions): string {
  const own = schemaOf(parseDocument(values).contents, []);
  const properties: Record<string, unknown> = { ...propertiesOf(own), global };
  if (environment !== undefined) {
    properties.env = {
      type: 'object',
      propertyNames: { enum: environment },
      additionalProperties: { type: ['string', 'number', 'boolean'] },
    };
  }
  const whole = { $schema: 'http://json-schema.org/draft-07/schema#', $comment: notice, ...own, properties };
  return `${JSON.stringify(whole, undefined, 2)}\n`;
}

/** What `global` of any of these values.yaml holds. */
export function globalSchema(files: readonly string[]): Schema {
  return files
    .map((text): Schema => {
      const value = parseDocument(text).get('global', true);
      return isMap(value) ? schemaOf(value, ['global']) : { type: 'object' };
    })
    .reduce(merge, { type: 'object', additionalProperties: false });
}

function merge(one: Schema, other: Schema): Schema {
  const properties: Record<string, unknown> = { ...propertiesOf(one) };
  for (const [name, schema] of Object.entries(propertiesOf(other))) {
    const known = properties[name];
    properties[name] = isSchema(known) && isSchema(schema) && 'properties' in known ? merge(known, schema) : schema;
  }
  return { ...one, properties };
}

function propertiesOf({ properties }: Schema): Schema {
  return isSchema(properties) ? properties : {};
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null;
}

function schemaOf(node: unknown, path: readonly string[]): Schema {
  const name = path.join('.');
  if (isMap(node)) {
    const entries = node.items.flatMap(({ key, value }): [string, Schema][] =>
      isScalar(key) ? [[String(key.value), schemaOf(value, [...path, String(key.value)])]] : [],
    );
    const open = entries.length === 0 || OPEN.has(path.at(-1) ?? '');
    const properties = Object.fromEntries(entries);
    return {
      type: 'object',
      ...(entries.length === 0 ? {} : { properties }),
      ...(open ? {} : { additionalProperties: false }),
    };
  }
  if (isSeq(node)) return { type: 'array' };
  const value = isScalar(node) ? node.value : undefined;
  if (typeof value === 'boolean') return { type: 'boolean' };
  if (typeof value === 'number') return { type: ['integer', 'string'] };
  const allowed = CHOICES.get(name);
  if (allowed !== undefined) return { type: 'string', enum: allowed };
  if (PATHS.has(name)) return { type: 'string', pattern: value === '' ? '^(/.*)?$' : '^/' };
  return { type: SCALARS.has(name) ? ['string', 'integer', 'boolean'] : 'string' };
}
