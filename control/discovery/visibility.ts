/**
 * Who may see a resource. Pure.
 *
 * An agent that serves a whole node needs the whole mesh: it answers for pods of any namespace, and applies the
 * namespace of each client connection itself. Everybody else (a waypoint, an agent of one namespace) gets everything but
 * the services that are private to other namespaces.
 */
import type { Resource } from './resource.ts';

export interface Viewer {
  /** Namespace the caller proved to be in. */
  readonly namespace: string;
  /** True for an agent that serves a whole node. */
  readonly servesNode: boolean;
}

export function visible(resource: Pick<Resource, 'privateTo'>, viewer: Viewer): boolean {
  return resource.privateTo === '' || viewer.servesNode || viewer.namespace === resource.privateTo;
}
