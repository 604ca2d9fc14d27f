/**
 * Gives ServiceEntries without addresses theirs, in `.status.addresses`. What is free is decided over all entries at once
 * (discovery/allocate-addresses.ts); each entry is written by itself, and only as it was when it was looked at, so that
 * an address never stands in two entries because two writers were at work.
 */

import { logger } from '../../core/log.ts';
import { isConflict, isNotFound } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { apiVersionOf, RESOURCES } from '../../kube/resource.ts';
import { allocateAddresses, type HostAddress } from '../discovery/allocate-addresses.ts';
import { addressClaimant, statedAddresses } from '../discovery/service-entry.ts';
import type { ObjectChange, ObjectStore } from '../model/object-store.ts';
import { QueuedTask } from './queued-task.ts';

const log = logger('leader');

const FIELD_MANAGER = 'istio-ip-autoallocate';
/** All entries are looked at together; no entry has this key. */
const LOOK = 'all entries';
/** Changes within this time are looked at together. */
const GATHER_MS = 50;
/** After a write, the source needs this long at most to tell of it. Until then the entry is not written again. */
const ECHO_MS = 2000;
/** Names of hosts without an address that one log line tells. */
const MAX_TOLD = 5;

export class AddressAllocation extends QueuedTask {
  readonly name = 'addresses';
  readonly #client: KubeClient;
  readonly #store: ObjectStore;
  /** What entries must get, by `<namespace>/<name>`. */
  #writes: ReadonlyMap<string, readonly HostAddress[]> = new Map();
  #toldExhausted = '';

  constructor(client: KubeClient, store: ObjectStore) {
    super();
    this.#client = client;
    this.#store = store;
  }

  protected begin(): void {
    this.add(LOOK);
  }

  changed(changes: readonly ObjectChange[]): void {
    if (changes.some(({ key }) => key.startsWith('ServiceEntry/'))) this.addAfter(LOOK, GATHER_MS);
  }

  protected async run(key: string, signal: AbortSignal): Promise<void> {
    if (key === LOOK) this.#look();
    else await this.#write(key, signal);
  }

  #look(): void {
    const entries = [...this.#store.all('ServiceEntry')];
    const stated = new Set(entries.flatMap((entry) => statedAddresses(entry)));
    const { writes, exhausted } = allocateAddresses(entries.map(addressClaimant), stated);
    this.#writes = writes;
    for (const name of writes.keys()) this.add(name);
    const told = exhausted.slice(0, MAX_TOLD).join(', ');
    if (told !== '' && told !== this.#toldExhausted) {
      log.error({ hosts: told, count: exhausted.length }, 'no address is free for these hosts: they stay without one');
    }
    this.#toldExhausted = told;
  }

  async #write(key: string, signal: AbortSignal): Promise<void> {
    const addresses = this.#writes.get(key);
    const [namespace = '', name = ''] = key.split('/');
    const entry = this.#store.find('ServiceEntry', namespace, name);
    if (addresses === undefined || entry === undefined || entry.meta.deleting) return;
    const resource = RESOURCES.ServiceEntry;
    const body = {
      apiVersion: apiVersionOf(resource),
      kind: resource.kind,
      metadata: { name, namespace, uid: entry.meta.uid },
      status: { addresses },
    };
    try {
      const options = { fieldManager: FIELD_MANAGER, force: true, subresource: 'status', signal };
      await this.#client.apply(resource, namespace, name, body, options);
      // Should the source not tell of the write, the entry is looked at again.
      this.addAfter(LOOK, ECHO_MS);
    } catch (thrown) {
      // Deleted, or made anew: the source is about to tell.
      if (isNotFound(thrown) || isConflict(thrown)) return;
      throw thrown;
    }
  }
}
