/**
 * An object as the API server gives it: the envelope is checked, the rest is left to decoders of whoever reads it.
 */
import { isRecord } from '../core/decoder.ts';
import { KubernetesApiError } from './api-error.ts';

export interface KubeObject {
  readonly metadata: KubeMetadata;
  readonly [field: string]: unknown;
}

/** As it came: objects of the cluster have no namespace. Uid and version are empty where the server gives none. */
export interface KubeMetadata {
  readonly name: string;
  readonly namespace?: string | undefined;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly [field: string]: unknown;
}

/** Undefined when the value is no object with metadata and a name. */
export function kubeObject(value: unknown): KubeObject | undefined {
  if (!isRecord(value) || !isRecord(value.metadata)) return undefined;
  const { name, namespace, uid = '', resourceVersion = '' } = value.metadata;
  if (typeof name !== 'string' || typeof uid !== 'string' || typeof resourceVersion !== 'string') return undefined;
  if (namespace !== undefined && typeof namespace !== 'string') return undefined;
  const metadata: Record<string, unknown> = value.metadata;
  return {
    ...value,
    metadata:
      namespace === undefined
        ? { ...metadata, name, uid, resourceVersion }
        : { ...metadata, name, namespace, uid, resourceVersion },
  };
}

export function requireObject(what: string, value: unknown): KubeObject {
  const found = kubeObject(value);
  if (found !== undefined) return found;
  throw new KubernetesApiError(`${what}: the answer is not an object with a name`, {
    status: 0,
    reason: 'MalformedAnswer',
  });
}

export interface ObjectPage {
  readonly items: readonly unknown[];
  /** Of the whole list: where a watch begins. */
  readonly resourceVersion: string;
  /** Empty on the last page. */
  readonly continueToken: string;
}

export function requirePage(what: string, value: unknown): ObjectPage {
  const metadata = isRecord(value) ? value.metadata : undefined;
  const items = isRecord(value) ? (value.items ?? []) : undefined;
  if (!isRecord(metadata) || !Array.isArray(items)) {
    throw new KubernetesApiError(`${what}: the answer is not a list`, { status: 0, reason: 'MalformedAnswer' });
  }
  return {
    items,
    resourceVersion: typeof metadata.resourceVersion === 'string' ? metadata.resourceVersion : '',
    continueToken: typeof metadata.continue === 'string' ? metadata.continue : '',
  };
}
