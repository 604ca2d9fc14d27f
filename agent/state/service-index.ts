/**
 * The services by key, by host name, by virtual address and by address block. Several services may share a virtual
 * address or a host name, also within one namespace; each is added and removed on its own. Which one answers a client:
 * the one of its own namespace, then the canonical one, then the first by key (the same in every worker).
 */
import type { IpAddress } from '../../core/ip.ts';
import { CidrIndex } from './cidr-index.ts';
import { MultiMap } from './multi-map.ts';
import { isVisibleTo, type Service } from './service.ts';

export class ServiceIndex {
  readonly #byKey = new Map<string, Service>();
  readonly #byHostname = new MultiMap<Service>(byKey);
  readonly #byVip = new Map<string, MultiMap<Service>>();
  readonly #byCidr = new Map<string, CidrIndex>();

  get size(): number {
    return this.#byKey.size;
  }

  values(): IterableIterator<Service> {
    return this.#byKey.values();
  }

  findByKey(key: string): Service | undefined {
    return this.#byKey.get(key);
  }

  allByHostname(hostname: string): readonly Service[] {
    return this.#byHostname.all(hostname);
  }

  /** @param clientNamespace undefined sees every service */
  findByVip(network: string, ip: IpAddress, clientNamespace: string | undefined): Service | undefined {
    const candidates = this.#byVip.get(network);
    if (candidates === undefined) return undefined;
    if (candidates.count(ip) > 1) return best(candidates.all(ip), clientNamespace);
    const only = candidates.first(ip);
    return only !== undefined && isVisibleTo(only, clientNamespace) ? only : undefined;
  }

  /** Own namespace before others, then the longest prefix, then the canonical service. */
  findByCidr(network: string, ip: IpAddress, clientNamespace: string | undefined): Service | undefined {
    return this.#byCidr.get(network)?.find(ip, clientNamespace);
  }

  /** The key must not be taken. */
  add(service: Service): void {
    this.#byKey.set(service.key, service);
    this.#byHostname.add(service.hostname, service);
    for (const { network, ip } of service.vips) {
      let group = this.#byVip.get(network);
      if (group === undefined) {
        group = new MultiMap<Service>(byKey);
        this.#byVip.set(network, group);
      }
      group.add(ip, service);
    }
    for (const vip of service.cidrVips) {
      let blocks = this.#byCidr.get(vip.network);
      if (blocks === undefined) {
        blocks = new CidrIndex();
        this.#byCidr.set(vip.network, blocks);
      }
      blocks.add(vip, service);
    }
  }

  remove(service: Service): void {
    this.#byKey.delete(service.key);
    this.#byHostname.remove(service.hostname, service);
    for (const { network, ip } of service.vips) {
      const group = this.#byVip.get(network);
      group?.remove(ip, service);
      if (group?.size === 0) this.#byVip.delete(network);
    }
    for (const vip of service.cidrVips) {
      const blocks = this.#byCidr.get(vip.network);
      blocks?.remove(vip, service);
      if (blocks?.isEmpty) this.#byCidr.delete(vip.network);
    }
  }
}

function best(candidates: readonly Service[], clientNamespace: string | undefined): Service | undefined {
  let found: Service | undefined;
  for (const service of candidates) {
    if (!isVisibleTo(service, clientNamespace)) continue;
    if (service.namespace === clientNamespace) return service;
    if (found === undefined || (service.canonical && !found.canonical)) found = service;
  }
  return found;
}

function byKey(a: Service, b: Service): number {
  return a.key < b.key ? -1 : 1;
}
