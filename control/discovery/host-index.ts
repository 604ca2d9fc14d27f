/**
 * Hosts that ServiceEntries define, and who answers for a host: in a namespace the Service of that name, else the
 * oldest entry; in the mesh (`canonical`) the same among all namespaces, entries that are private left out.
 */
import type { Service } from '../objects/service.ts';
import type { ServiceEntry } from '../objects/service-entry.ts';
import type { MeshView } from './mesh-view.ts';
import { parseServiceHostname } from './service.ts';
import { type EntryVisibility, entryVisibility } from './service-visibility.ts';

export type HostOwner =
  | { readonly kind: 'service'; readonly service: Service }
  | { readonly kind: 'entry'; readonly entry: ServiceEntry };

export class HostIndex {
  readonly #view: MeshView;
  /** Hostname to the entries `<namespace>/<name>` that define it. */
  readonly #entries = new Map<string, Set<string>>();
  readonly #hostsOf = new Map<string, readonly string[]>();

  constructor(view: MeshView) {
    this.#view = view;
  }

  /** Reads an entry anew. Gives the hosts it defined before or defines now. */
  refresh(namespace: string, name: string): Set<string> {
    const key = `${namespace}/${name}`;
    const before = this.#hostsOf.get(key) ?? [];
    const after = this.#view.store.find('ServiceEntry', namespace, name)?.hosts ?? [];
    for (const host of before) {
      const owners = this.#entries.get(host);
      owners?.delete(key);
      if (owners?.size === 0) this.#entries.delete(host);
    }
    for (const host of after) {
      const owners = this.#entries.get(host) ?? new Set<string>();
      owners.add(key);
      this.#entries.set(host, owners);
    }
    if (after.length === 0) this.#hostsOf.delete(key);
    else this.#hostsOf.set(key, after);
    return new Set([...before, ...after]);
  }

  /** Entries `<namespace>/<name>` that define the host. */
  entriesOf(host: string): Iterable<string> {
    return this.#entries.get(host) ?? [];
  }

  /** Who answers for the host in a namespace. */
  owner(namespace: string, host: string): HostOwner | undefined {
    const service = this.#serviceOf(host);
    if (service?.meta.namespace === namespace) return { kind: 'service', service };
    const entry = oldest(this.#visible(host, (meta) => meta === namespace));
    return entry === undefined ? undefined : { kind: 'entry', entry };
  }

  /** Hosts of an entry that it answers for itself, in its order. */
  ownHosts(entry: ServiceEntry): string[] {
    return entry.hosts.filter((host) => {
      const owner = this.owner(entry.meta.namespace, host);
      return owner?.kind === 'entry' && owner.entry.meta.name === entry.meta.name;
    });
  }

  /** True when the entry answers for the host to clients whose own namespace has none. */
  isCanonical(entry: ServiceEntry, host: string): boolean {
    if (this.#serviceOf(host) !== undefined || this.visibility(entry) !== 'public') return false;
    const first = oldest(this.#visible(host, () => true, 'public'));
    return first?.meta.namespace === entry.meta.namespace && first.meta.name === entry.meta.name;
  }

  visibility(entry: ServiceEntry): EntryVisibility {
    return entryVisibility(this.#view.meshConfig, this.#view.findNamespace(entry.meta.namespace));
  }

  /** The Service that has this hostname and is announced. */
  #serviceOf(host: string): Service | undefined {
    const parsed = parseServiceHostname(host, this.#view.settings);
    const service = parsed && this.#view.store.find('Service', parsed.namespace, parsed.name);
    return service?.type === 'ExternalName' ? undefined : service;
  }

  *#visible(host: string, inNamespace: (namespace: string) => boolean, only?: EntryVisibility): Iterable<ServiceEntry> {
    for (const key of this.entriesOf(host)) {
      const [namespace = '', name = ''] = key.split('/');
      if (!inNamespace(namespace)) continue;
      const entry = this.#view.store.find('ServiceEntry', namespace, name);
      if (entry === undefined) continue;
      const visibility = this.visibility(entry);
      if (visibility !== 'none' && (only === undefined || visibility === only)) yield entry;
    }
  }
}

/** The one created first; where ages are equal the first by namespace and name. */
function oldest(entries: Iterable<ServiceEntry>): ServiceEntry | undefined {
  let best: ServiceEntry | undefined;
  for (const entry of entries) if (best === undefined || isBefore(entry, best)) best = entry;
  return best;
}

function isBefore(a: ServiceEntry, b: ServiceEntry): boolean {
  if (a.meta.createdMs !== b.meta.createdMs) return a.meta.createdMs < b.meta.createdMs;
  if (a.meta.namespace !== b.meta.namespace) return a.meta.namespace < b.meta.namespace;
  return a.meta.name < b.meta.name;
}
