/**
 * The objects of the mesh in memory, with the indexes that builders and the CA look up: by kind and namespace, pods by
 * node. Synchronous and without I/O; the only writer is `apply`.
 */
import type { MeshObject, ObjectKey, ObjectKind } from '../objects/object.ts';
import { objectKey } from '../objects/object.ts';
import { isTerminal, type Pod } from '../objects/pod.ts';
import type { ChangeSet } from '../sources/source.ts';

export interface ObjectChange {
  readonly key: ObjectKey;
  readonly before: MeshObject | undefined;
  readonly after: MeshObject | undefined;
}

type OfKind<K extends ObjectKind> = Extract<MeshObject, { kind: K }>;

export class ObjectStore {
  readonly #objects = new Map<ObjectKey, MeshObject>();
  /** `<kind>/<namespace>` to the objects by name. */
  readonly #byNamespace = new Map<string, Map<string, MeshObject>>();
  readonly #podsByNode = new Map<string, Map<ObjectKey, Pod>>();

  /** Takes a change set over and tells what became different, in order. */
  apply(change: ChangeSet): ObjectChange[] {
    const changes: ObjectChange[] = [];
    for (const key of change.removed) {
      const before = this.#objects.get(key);
      if (before === undefined) continue;
      this.#remove(key, before);
      changes.push({ key, before, after: undefined });
    }
    for (const after of change.upserted) {
      const key = objectKey(after);
      const before = this.#objects.get(key);
      if (before !== undefined) this.#remove(key, before);
      this.#insert(key, after);
      changes.push({ key, before, after });
    }
    return changes;
  }

  get size(): number {
    return this.#objects.size;
  }

  find<K extends ObjectKind>(kind: K, namespace: string, name: string): OfKind<K> | undefined {
    const found = this.#objects.get(`${kind}/${namespace}/${name}`);
    return found !== undefined && isKind(found, kind) ? found : undefined;
  }

  /** Objects of a kind in one namespace (empty namespace: objects of the cluster). */
  *inNamespace<K extends ObjectKind>(kind: K, namespace: string): Iterable<OfKind<K>> {
    for (const object of this.#byNamespace.get(`${kind}/${namespace}`)?.values() ?? []) {
      if (isKind(object, kind)) yield object;
    }
  }

  *all<K extends ObjectKind>(kind: K): Iterable<OfKind<K>> {
    for (const object of this.#objects.values()) if (isKind(object, kind)) yield object;
  }

  /** Every pod scheduled on a node, terminal ones included. */
  podsOnNode(node: string): Iterable<Pod> {
    return this.#podsByNode.get(node)?.values() ?? [];
  }

  /** True when a pod that can still run on `node` has this namespace and service account. */
  nodeRuns(node: string, namespace: string, serviceAccount: string): boolean {
    for (const pod of this.podsOnNode(node)) {
      if (pod.meta.namespace === namespace && pod.serviceAccount === serviceAccount && !isTerminal(pod)) return true;
    }
    return false;
  }

  #insert(key: ObjectKey, object: MeshObject): void {
    this.#objects.set(key, object);
    const group = `${object.kind}/${object.meta.namespace}`;
    const members = this.#byNamespace.get(group) ?? new Map<string, MeshObject>();
    members.set(object.meta.name, object);
    this.#byNamespace.set(group, members);
    if (object.kind === 'Pod' && object.nodeName !== '') {
      const pods = this.#podsByNode.get(object.nodeName) ?? new Map<ObjectKey, Pod>();
      pods.set(key, object);
      this.#podsByNode.set(object.nodeName, pods);
    }
  }

  #remove(key: ObjectKey, object: MeshObject): void {
    this.#objects.delete(key);
    const group = `${object.kind}/${object.meta.namespace}`;
    const members = this.#byNamespace.get(group);
    members?.delete(object.meta.name);
    if (members?.size === 0) this.#byNamespace.delete(group);
    if (object.kind === 'Pod') {
      const pods = this.#podsByNode.get(object.nodeName);
      pods?.delete(key);
      if (pods?.size === 0) this.#podsByNode.delete(object.nodeName);
    }
  }
}

function isKind<K extends ObjectKind>(object: MeshObject, kind: K): object is OfKind<K> {
  return object.kind === kind;
}
