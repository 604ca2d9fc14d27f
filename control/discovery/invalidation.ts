/** What a set of object changes makes stale: the dependency table of the builder, in one place. */

import { unreachable } from '../../core/errors.ts';
import type { ObjectChange } from '../model/object-store.ts';
import { type MeshObject, namespacedName } from '../objects/object.ts';

export class Invalidation {
  readonly #rootNamespace: string;
  /** AuthorizationPolicies, `<namespace>/<name>`. */
  readonly policies = new Set<string>();
  /** Namespaces whose PeerAuthentications changed. */
  readonly mutualTls = new Set<string>();
  readonly services: ObjectChange[] = [];
  /** Namespaces of which every service is stale. */
  readonly serviceNamespaces = new Set<string>();
  readonly pods: {
    before: Extract<MeshObject, { kind: 'Pod' }> | undefined;
    after: Extract<MeshObject, { kind: 'Pod' }> | undefined;
  }[] = [];
  /** Namespaces of which every pod is stale. */
  readonly podNamespaces = new Set<string>();
  /** Nodes of which every pod is stale. */
  readonly nodes = new Set<string>();
  everyPod = false;

  constructor(rootNamespace: string) {
    this.#rootNamespace = rootNamespace;
  }

  add(change: ObjectChange): void {
    const object = change.after ?? change.before;
    if (object === undefined) return;
    const { namespace, name } = object.meta;
    switch (object.kind) {
      case 'Pod':
        this.pods.push({
          before: change.before?.kind === 'Pod' ? change.before : undefined,
          after: change.after?.kind === 'Pod' ? change.after : undefined,
        });
        break;
      case 'Service':
        this.services.push(change);
        this.podNamespaces.add(namespace);
        break;
      case 'Namespace':
        this.serviceNamespaces.add(name);
        break;
      case 'Node':
        this.nodes.add(name);
        break;
      case 'AuthorizationPolicy':
        this.policies.add(namespacedName(object));
        if (hasSelector(change.before) || hasSelector(change.after)) this.#podsOf(namespace);
        break;
      case 'PeerAuthentication':
        this.mutualTls.add(namespace);
        this.#podsOf(namespace);
        break;
      case 'ServiceAccount':
      case 'EndpointSlice':
      case 'Gateway':
      case 'GatewayClass':
      case 'ServiceEntry':
      case 'WorkloadEntry':
      case 'MeshConfig':
        break;
      default:
        unreachable(object);
    }
  }

  #podsOf(namespace: string): void {
    if (namespace === this.#rootNamespace) this.everyPod = true;
    else this.podNamespaces.add(namespace);
  }
}

function hasSelector(object: MeshObject | undefined): boolean {
  return object?.kind === 'AuthorizationPolicy' && object.selector !== undefined;
}
