/**
 * The objects of the mesh in memory, with the indexes that builders and the CA look up: by kind and namespace, pods by
 * node. Synchronous and without I/O; the only writer is `apply`. An object is found by its parts, so that no key text is
 * kept for each of them.
 */
import type { MeshObject, ObjectKey, ObjectKind } from '../objects/object.ts';
import { objectKey, parseObjectKey } from '../objects/object.ts';
import { isTerminal, type Pod } from '../objects/pod.ts';
import type { ChangeSet } from '../sources/source.ts';

export interface ObjectChange {
  readonly key: ObjectKey;
  readonly before: MeshObject | undefined;
  readonly after: MeshObject | undefined;
}

type OfKind<K extends ObjectKind> = Extract<MeshObject, { kind: K }>;

export class ObjectStore {
  /** Kind, namespace, name. */
  readonly #objects = new Map<string, Map<string, Map<string, MeshObject>>>();
  readonly #podsByNode = new Map<string, Set<Pod>>();
  #size = 0;

  /** Takes a change set over and tells what became different, in order. */
  apply(change: ChangeSet): ObjectChange[] {
    const changes: ObjectChange[] = [];
    for (const key of change.removed) {
      const { kind, namespace, name } = parseObjectKey(key);
      const before = this.#lookUp(kind, namespace, name);
      if (before === undefined) continue;
      this.#remove(before);
      changes.push({ key, before, after: undefined });
    }
    for (const after of change.upserted) {
      const before = this.#lookUp(after.kind, after.meta.namespace, after.meta.name);
      if (before !== undefined) this.#remove(before);
      this.#insert(after);
      changes.push({ key: objectKey(after), before, after });
    }
    return changes;
  }

  get size(): number {
    return this.#size;
  }

  find<K extends ObjectKind>(kind: K, namespace: string, name: string): OfKind<K> | undefined {
    const found = this.#lookUp(kind, namespace, name);
    return found !== undefined && isKind(found, kind) ? found : undefined;
  }

  /** Objects of a kind in one namespace (empty namespace: objects of the cluster). */
  *inNamespace<K extends ObjectKind>(kind: K, namespace: string): Iterable<OfKind<K>> {
    for (const object of this.#objects.get(kind)?.get(namespace)?.values() ?? []) {
      if (isKind(object, kind)) yield object;
    }
  }

  *all<K extends ObjectKind>(kind: K): Iterable<OfKind<K>> {
    for (const members of this.#objects.get(kind)?.values() ?? []) {
      for (const object of members.values()) if (isKind(object, kind)) yield object;
    }
  }

  /** Every pod scheduled on a node, terminal ones included. */
  podsOnNode(node: string): Iterable<Pod> {
    return this.#podsByNode.get(node) ?? [];
  }

  /** True when a pod that can still run on `node` has this namespace and service account. */
  nodeRuns(node: string, namespace: string, serviceAccount: string): boolean {
    for (const pod of this.podsOnNode(node)) {
      if (pod.meta.namespace === namespace && pod.serviceAccount === serviceAccount && !isTerminal(pod)) return true;
    }
    return false;
  }

  #lookUp(kind: string, namespace: string, name: string): MeshObject | undefined {
    return this.#objects.get(kind)?.get(namespace)?.get(name);
  }

  #insert(object: MeshObject): void {
    const { namespace, name } = object.meta;
    const ofKind = this.#objects.get(object.kind) ?? new Map<string, Map<string, MeshObject>>();
    const members = ofKind.get(namespace) ?? new Map<string, MeshObject>();
    members.set(name, object);
    ofKind.set(namespace, members);
    this.#objects.set(object.kind, ofKind);
    this.#size++;
    if (object.kind !== 'Pod' || object.nodeName === '') return;
    const pods = this.#podsByNode.get(object.nodeName);
    if (pods === undefined) this.#podsByNode.set(object.nodeName, new Set([object]));
    else pods.add(object);
  }

  #remove(object: MeshObject): void {
    const { namespace, name } = object.meta;
    const ofKind = this.#objects.get(object.kind);
    const members = ofKind?.get(namespace);
    members?.delete(name);
    if (members?.size === 0) ofKind?.delete(namespace);
    this.#size--;
    if (object.kind !== 'Pod') return;
    const pods = this.#podsByNode.get(object.nodeName);
    pods?.delete(object);
    if (pods?.size === 0) this.#podsByNode.delete(object.nodeName);
  }
}

function isKind<K extends ObjectKind>(object: MeshObject, kind: K): object is OfKind<K> {
  return object.kind === kind;
}
