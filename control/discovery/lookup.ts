/**
 * The names behind a name: on-demand clients ask for a resource by its own name, or for an address by
 * `<network>/<ip>`; a service brings its endpoints along, and an agent is told of everything on its node.
 *
 * Keys that mean one resource, nearly all of them, cost one map entry; only shared keys get a set.
 */
import { type CidrBlock, cidrContains, ipToBytes, parseCidr, parseIp } from '../../core/ip.ts';
import type { Resource } from './resource.ts';

type Indexed = Pick<Resource, 'name' | 'aliases' | 'services' | 'node' | 'waypoints'>;

export class ResourceIndex {
  readonly #names = new Set<string>();
  readonly #aliases = new NameMap();
  readonly #members = new NameMap();
  readonly #onNode = new NameMap();
  readonly #behind = new NameMap();
  /** Services with address blocks: network to blocks. Few. */
  readonly #blocks = new Map<string, { readonly block: CidrBlock; readonly name: string }[]>();

  add(resource: Indexed): void {
    this.#names.add(resource.name);
    for (const alias of resource.aliases) {
      this.#aliases.add(alias, resource.name);
      const parsed = parseBlockAlias(alias);
      if (parsed === undefined) continue;
      const blocks = this.#blocks.get(parsed.network) ?? [];
      blocks.push({ block: parsed.block, name: resource.name });
      this.#blocks.set(parsed.network, blocks);
    }
    for (const service of resource.services) this.#members.add(service, resource.name);
    if (resource.node !== '') this.#onNode.add(resource.node, resource.name);
    for (const waypoint of resource.waypoints ?? []) this.#behind.add(waypoint, resource.name);
  }

  /** `resource` must be what was added: its aliases and memberships are taken out. */
  remove(resource: Indexed): void {
    this.#names.delete(resource.name);
    for (const alias of resource.aliases) {
      this.#aliases.remove(alias, resource.name);
      const parsed = parseBlockAlias(alias);
      if (parsed === undefined) continue;
      const rest = (this.#blocks.get(parsed.network) ?? []).filter((entry) => entry.name !== resource.name);
      if (rest.length === 0) this.#blocks.delete(parsed.network);
      else this.#blocks.set(parsed.network, rest);
    }
    for (const service of resource.services) this.#members.remove(service, resource.name);
    if (resource.node !== '') this.#onNode.remove(resource.node, resource.name);
    for (const waypoint of resource.waypoints ?? []) this.#behind.remove(waypoint, resource.name);
  }

  /**
   * Names of the resources that `key` means: the name itself, else those with the alias `<network>/<ip>` (or
   * `<network>/<ip>/<length>`), else the services whose address blocks hold the address, longest prefix first.
   */
  resolve(key: string): string[] {
    if (this.#names.has(key)) return [key];
    const named = [...this.#aliases.get(key)];
    return named.length > 0 ? named : this.#withinBlocks(key);
  }

  /** Endpoints of a service, by its resource name. */
  membersOf(service: string): Iterable<string> {
    return this.#members.get(service);
  }

  /** Workloads on a node. */
  onNode(node: string): Iterable<string> {
    return this.#onNode.get(node);
  }

  /** Services and workloads behind a waypoint, by the name it is addressed by: `<namespace>/<hostname>`, `<network>/<ip>`. */
  behind(waypoint: string): Iterable<string> {
    return this.#behind.get(waypoint);
  }

  #withinBlocks(key: string): string[] {
    const slash = key.indexOf('/');
    const blocks = this.#blocks.get(key.slice(0, slash));
    const ip = parseIp(key.slice(slash + 1));
    if (slash < 0 || blocks === undefined || ip === undefined) return [];
    const address = ipToBytes(ip);
    return blocks
      .filter(({ block }) => cidrContains(block, address))
      .sort((a, b) => b.block.prefixLength - a.block.prefixLength)
      .map(({ name }) => name);
  }
}

function parseBlockAlias(alias: string): { network: string; block: CidrBlock } | undefined {
  const slash = alias.indexOf('/');
  if (alias.indexOf('/', slash + 1) < 0) return undefined;
  const block = parseCidr(alias.slice(slash + 1));
  return block === undefined ? undefined : { network: alias.slice(0, slash), block };
}

/** Key to one or several names. */
class NameMap {
  readonly #entries = new Map<string, string | Set<string>>();

  add(key: string, name: string): void {
    const present = this.#entries.get(key);
    if (present === undefined) this.#entries.set(key, name);
    else if (typeof present !== 'string') present.add(name);
    else if (present !== name) this.#entries.set(key, new Set([present, name]));
  }

  remove(key: string, name: string): void {
    const present = this.#entries.get(key);
    if (present === name) this.#entries.delete(key);
    if (present === undefined || typeof present === 'string') return;
    present.delete(name);
    if (present.size === 0) this.#entries.delete(key);
  }

  get(key: string): Iterable<string> {
    const present = this.#entries.get(key);
    if (present === undefined) return [];
    return typeof present === 'string' ? [present] : present;
  }
}
