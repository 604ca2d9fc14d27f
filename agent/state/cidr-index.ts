/**
 * Services by address block within one network: a hash table per prefix length that occurs, so that a lookup costs one
 * probe per length and not one comparison per block.
 */
import { cidrFromBytes, type IpAddress, ipFromBytes, ipToBytes } from '../../core/ip.ts';
import { MultiMap } from './multi-map.ts';
import { isVisibleTo, type Service, type ServiceCidrVip } from './service.ts';

interface LengthTable {
  readonly byteLength: number;
  readonly prefixLength: number;
  readonly services: MultiMap<Service>;
}

export class CidrIndex {
  /** Longest prefix first. */
  #tables: LengthTable[] = [];

  get isEmpty(): boolean {
    return this.#tables.length === 0;
  }

  /** Own namespace before others, then the longest prefix, then the canonical service, then the first by key. */
  find(ip: IpAddress, clientNamespace: string | undefined): Service | undefined {
    const bytes = ipToBytes(ip);
    let found: Service | undefined;
    for (const table of this.#tables) {
      if (table.byteLength !== bytes.length) continue;
      const masked = cidrFromBytes(bytes, table.prefixLength);
      const block = masked === undefined ? undefined : ipFromBytes(masked.bytes);
      if (block === undefined) continue;
      let best: Service | undefined;
      for (const service of table.services.all(block)) {
        if (!isVisibleTo(service, clientNamespace)) continue;
        if (service.namespace === clientNamespace) return service;
        if (best === undefined || (service.canonical && !best.canonical)) best = service;
      }
      found ??= best;
    }
    return found;
  }

  add({ block }: ServiceCidrVip, service: Service): void {
    let table = this.#tableOf(block.bytes.length, block.prefixLength);
    if (table === undefined) {
      table = {
        byteLength: block.bytes.length,
        prefixLength: block.prefixLength,
        services: new MultiMap<Service>((a, b) => (a.key < b.key ? -1 : 1)),
      };
      this.#tables = [...this.#tables, table].sort((a, b) => b.prefixLength - a.prefixLength);
    }
    table.services.add(String(ipFromBytes(block.bytes)), service);
  }

  remove({ block }: ServiceCidrVip, service: Service): void {
    const table = this.#tableOf(block.bytes.length, block.prefixLength);
    table?.services.remove(String(ipFromBytes(block.bytes)), service);
    if (table?.services.size === 0) this.#tables = this.#tables.filter((other) => other !== table);
  }

  #tableOf(byteLength: number, prefixLength: number): LengthTable | undefined {
    return this.#tables.find((table) => table.byteLength === byteLength && table.prefixLength === prefixLength);
  }
}
