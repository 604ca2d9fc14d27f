/**
 * EndpointSlices by Service, and the pods that slices of Services without selector point at. Slices of Services with
 * a selector are ignored: their endpoints are found by labels.
 */
import type { EndpointSlice } from '../objects/endpoint-slice.ts';
import { podOf } from './endpoint-slice.ts';
import type { MeshView } from './mesh-view.ts';

interface Indexed {
  readonly service: string;
  readonly pods: readonly string[];
}

export class SliceIndex {
  readonly #view: MeshView;
  readonly #indexed = new Map<string, Indexed>();
  /** `<namespace>/<service>` to names of slices. */
  readonly #byService = new Map<string, Set<string>>();
  /** `<namespace>/<pod>` to names of slices. */
  readonly #byPod = new Map<string, Set<string>>();

  constructor(view: MeshView) {
    this.#view = view;
  }

  /** Reads a slice anew. Gives the pods it pointed at or points at now. */
  refresh(namespace: string, name: string): Set<string> {
    const key = `${namespace}/${name}`;
    const before = this.#indexed.get(key);
    const slice = this.#view.store.find('EndpointSlice', namespace, name);
    const after = slice === undefined || slice.service === '' ? undefined : this.#read(slice);
    if (before !== undefined) {
      remove(this.#byService, `${namespace}/${before.service}`, name);
      for (const pod of before.pods) remove(this.#byPod, `${namespace}/${pod}`, name);
    }
    if (after === undefined) this.#indexed.delete(key);
    else {
      this.#indexed.set(key, after);
      add(this.#byService, `${namespace}/${after.service}`, name);
      for (const pod of after.pods) add(this.#byPod, `${namespace}/${pod}`, name);
    }
    return new Set([...(before?.pods ?? []), ...(after?.pods ?? [])]);
  }

  /** Names of the slices of a Service. */
  ofService(namespace: string, service: string): string[] {
    return [...(this.#byService.get(`${namespace}/${service}`) ?? [])];
  }

  /** Slices that point at a pod, by name: where two state different ports for a Service, the first one counts. */
  *ofPod(namespace: string, pod: string): Iterable<EndpointSlice> {
    const names = this.#byPod.get(`${namespace}/${pod}`);
    if (names === undefined) return;
    for (const name of [...names].sort()) {
      const slice = this.#view.store.find('EndpointSlice', namespace, name);
      if (slice !== undefined) yield slice;
    }
  }

  #read(slice: EndpointSlice): Indexed {
    const service = this.#view.store.find('Service', slice.meta.namespace, slice.service);
    if (service === undefined || service.selector.size > 0) return { service: slice.service, pods: [] };
    return { service: slice.service, pods: slice.endpoints.flatMap((endpoint) => podOf(endpoint) ?? []) };
  }
}

function add(index: Map<string, Set<string>>, key: string, name: string): void {
  const names = index.get(key) ?? new Set<string>();
  names.add(name);
  index.set(key, names);
}

function remove(index: Map<string, Set<string>>, key: string, name: string): void {
  const names = index.get(key);
  names?.delete(name);
  if (names?.size === 0) index.delete(key);
}
