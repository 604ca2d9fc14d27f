/** Reading fields of plain Kubernetes objects without trusting their shape. */
import { isRecord } from '../../core/decoder.ts';
import type { KubeObject } from '../../kube/object.ts';

/** The value at a path of field names; undefined where a step is missing. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let current = value;
  for (const step of path) {
    if (!isRecord(current)) return undefined;
    current = current[step];
  }
  return current;
}

export function textAt(value: unknown, ...path: readonly string[]): string {
  const found = at(value, ...path);
  return typeof found === 'string' ? found : '';
}

export function numberAt(value: unknown, ...path: readonly string[]): number {
  const found = at(value, ...path);
  return typeof found === 'number' ? found : 0;
}

export function listAt(value: unknown, ...path: readonly string[]): readonly unknown[] {
  const found = at(value, ...path);
  return Array.isArray(found) ? found : [];
}

export function labelOf(object: KubeObject, name: string): string | undefined {
  const value = at(object.metadata, 'labels', name);
  return typeof value === 'string' ? value : undefined;
}

export function annotationOf(object: KubeObject, name: string): string | undefined {
  const value = at(object.metadata, 'annotations', name);
  return typeof value === 'string' ? value : undefined;
}

/** `True`, `False`, `Unknown`, or undefined when there is no such condition. */
export function conditionOf(object: KubeObject, type: string): string | undefined {
  const found = listAt(object, 'status', 'conditions').find((condition) => textAt(condition, 'type') === type);
  return found === undefined ? undefined : textAt(found, 'status');
}

export function fullName({ metadata }: KubeObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}

/** Empty for objects of the cluster. */
export function namespaceOf({ metadata }: KubeObject): string {
  return metadata.namespace ?? '';
}
