/**
 * Discovery against a model: whatever happens to resources, and however clients ask, answer, refuse, leave and come back,
 * at this replica or another one, in the end each of them holds exactly what it asked for and may see. And requests are
 * any bytes at all.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
} from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { ADDRESS_TYPE, type Resource } from '../../control/discovery/resource.ts';
import { DiscoveryRequest } from '../../control/xds/discovery-request.ts';
import { ResourceStore } from '../../control/xds/resource-store.ts';
import { ResponseCache } from '../../control/xds/response-cache.ts';
import { findServedType } from '../../control/xds/served-types.ts';
import { SUBSCRIPTION_LIMITS, Subscription } from '../../control/xds/subscription.ts';
import { AmbitError } from '../../core/errors.ts';
import { encodeRequest, type RawRequest } from '../support/raw-xds-client.ts';

const NODE = 'node-a';
const NAMESPACE = 'shop';

class Replica {
  readonly store = new ResourceStore(ADDRESS_TYPE);
  readonly cache = new ResponseCache(this.store);

  publish(name: string, resource: Resource | undefined): void {
    this.store.publish([{ type: ADDRESS_TYPE, name, resource }]);
  }
}

type Mode = 'everything' | 'restricted' | 'on demand';

class Client {
  readonly held = new Map<string, string>();
  readonly mode: Mode;
  readonly keys = new Set<string>();
  /** Asks by name and for everything besides. */
  #wide = false;
  #subscription: Subscription | undefined;
  #nonce: string | undefined;
  #replica: Replica;

  constructor(mode: Mode, replica: Replica) {
    this.mode = mode;
    this.#replica = replica;
    this.connect(replica);
  }

  connect(replica: Replica): void {
    this.#replica = replica;
    this.#nonce = undefined;
    const subscribe = this.mode === 'on demand' ? ['*', ...this.keys] : [];
    const unsubscribe = this.mode === 'on demand' && !this.#wide ? ['*'] : [];
    const type = findServedType(ADDRESS_TYPE);
    assert.ok(type);
    const sees = ({ privateTo }: Pick<Resource, 'privateTo'>): boolean => privateTo === '' || privateTo === NAMESPACE;
    const context = {
      ...{ store: replica.store, cache: replica.cache, type, replica: 'x', subscriptionLimits: SUBSCRIPTION_LIMITS },
      limits: { responseBytes: 120, stepEntries: 3 },
      node: this.mode === 'on demand' ? NODE : '',
      sees: this.mode === 'restricted' ? sees : undefined,
    };
    const first = request({ type: ADDRESS_TYPE, subscribe, unsubscribe, held: Object.fromEntries(this.held) });
    this.#subscription = new Subscription(context, first);
  }

  /** One step of the server; what it sends is taken over at once and answered later. */
  step(holdRemovals = false): boolean {
    const step = this.#subscription?.step(holdRemovals);
    if (step?.kind !== 'response') return step?.kind === 'more';
    const response = fromBinary(DeltaDiscoveryResponseSchema, step.response.bytes);
    for (const { name, version } of response.resources) this.held.set(name, version);
    for (const name of response.removedResources) this.held.delete(name);
    this.#nonce = response.nonce;
    return true;
  }

  answer(refusal?: string): void {
    if (this.#nonce === undefined) return;
    const nonce = this.#nonce;
    this.#nonce = undefined;
    this.#ask(refusal === undefined ? { type: ADDRESS_TYPE, nonce } : { type: ADDRESS_TYPE, nonce, refusal });
  }

  subscribe(key: string): void {
    if (this.mode !== 'on demand') return;
    this.keys.add(key);
    this.#ask({ type: ADDRESS_TYPE, subscribe: [key] });
  }

  /** It forgets what it did not ask for in another way. */
  unsubscribe(key: string): void {
    if (this.mode !== 'on demand' || !this.keys.delete(key)) return;
    const wanted = this.expected();
    for (const name of this.held.keys()) if (!wanted.has(name)) this.held.delete(name);
    this.#ask({ type: ADDRESS_TYPE, unsubscribe: [key] });
  }

  widen(): void {
    if (this.mode !== 'on demand') return;
    this.#wide = true;
    this.#ask({ type: ADDRESS_TYPE, subscribe: ['*'] });
  }

  settle(): void {
    for (let idle = 0; idle < 2; ) {
      idle = this.step() ? 0 : idle + 1;
      this.answer();
    }
  }

  /** What it must hold, by the plain meaning of its subscription. */
  expected(): Map<string, string> {
    const { store } = this.#replica;
    const all = [...store.names()].flatMap((name) => store.find(name) ?? []);
    const wanted = all.filter((resource) => {
      if (this.mode === 'everything' || this.#wide) return true;
      if (this.mode === 'restricted') return resource.privateTo === '' || resource.privateTo === NAMESPACE;
      const asked = ({ name, aliases }: Resource): boolean =>
        this.keys.has(name) || aliases.some((alias) => this.keys.has(alias));
      const serviceIsWanted = (service: string): boolean => {
        const found = store.find(service);
        return found !== undefined && asked(found);
      };
      return resource.node === NODE || asked(resource) || resource.services.some(serviceIsWanted);
    });
    return new Map(wanted.map(({ name, version }) => [name, version]));
  }

  #ask(fields: RawRequest): void {
    this.#subscription?.request(request(fields));
  }
}

function request(fields: RawRequest): DiscoveryRequest {
  return new DiscoveryRequest(encodeRequest(fields));
}

const names = fc.constantFrom('s/one', 's/two', 'w1', 'w2', 'w3', 'w4', 'w5');
const resources = fc.record({
  version: fc.constantFrom('1', '2', '3'),
  services: fc.subarray(['s/one', 's/two']),
  node: fc.constantFrom('', NODE, 'node-b'),
  privateTo: fc.constantFrom('', NAMESPACE, 'other'),
  alias: fc.constantFrom([], ['net/10.0.0.1'], ['net/10.0.0.2']),
});
const event = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('put' as const), name: names, fields: resources }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), name: names }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('step' as const), client: fc.nat(2), hold: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('answer' as const), client: fc.nat(2) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('subscribe' as const),
      key: fc.oneof(names, fc.constantFrom('net/10.0.0.1', 'net/10.0.0.2', 'nothing')),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('move' as const), client: fc.nat(2), to: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unsubscribe' as const), key: names }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('widen' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('trim' as const) }) },
);

test('in the end every client holds what it asked for, whatever happened', () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      const replicas = [new Replica(), new Replica()];
      const [home] = replicas;
      assert.ok(home);
      const clients = (['everything', 'restricted', 'on demand'] as const).map((mode) => new Client(mode, home));
      const at = new Map(clients.map((client) => [client, home]));
      for (const one of events) {
        if (one.kind === 'put') {
          const { version, services, node, privateTo, alias } = one.fields;
          const isService = one.name.startsWith('s/');
          const facts = { services: isService ? [] : services, node: isService ? '' : node, privateTo, aliases: alias };
          // The version is that of the content.
          const bytes = Buffer.from(JSON.stringify([one.name, version, facts]));
          const resource = { name: one.name, version: bytes.toString('base64url'), bytes, ...facts };
          for (const replica of replicas) replica.publish(one.name, resource);
        } else if (one.kind === 'remove') {
          for (const replica of replicas) replica.publish(one.name, undefined);
        } else if (one.kind === 'step') clients[one.client]?.step(one.hold);
        else if (one.kind === 'answer') clients[one.client]?.answer();
        else if (one.kind === 'subscribe') clients[2]?.subscribe(one.key);
        else if (one.kind === 'unsubscribe') clients[2]?.unsubscribe(one.key);
        else if (one.kind === 'widen') clients[2]?.widen();
        else if (one.kind === 'move') {
          const [client, replica] = [clients[one.client], replicas[one.to]];
          if (client === undefined || replica === undefined) continue;
          client.connect(replica);
          at.set(client, replica);
        } else {
          // Nobody reads a replica without clients; the other trims what all of its own have passed.
          for (const client of clients) client.settle();
          for (const replica of replicas) replica.store.trim(replica.store.sequence);
        }
      }
      for (const client of clients) {
        client.settle();
        // Clients that ask by name may keep more: what once came along, up to date. Never less, never a stale version.
        const expected = client.expected();
        const store = at.get(client)?.store;
        if (client.mode !== 'on demand') assert.deepEqual([...client.held].sort(), [...expected].sort());
        for (const [name, version] of expected) assert.equal(client.held.get(name), version, name);
        for (const [name, version] of client.held) assert.equal(store?.find(name)?.version, version, name);
      }
    }),
    { numRuns: 3000 },
  );
});

test('any bytes are a request or an error that says so', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        const read = new DiscoveryRequest(Buffer.from(bytes));
        for (const name of read.subscribed()) assert.equal(typeof name, 'string');
        for (const { version } of read.held()) assert.equal(typeof version, 'string');
      } catch (thrown) {
        assert.ok(thrown instanceof AmbitError && ['DECODE', 'XDS'].includes(thrown.code), String(thrown));
      }
    }),
    { numRuns: 5000 },
  );
});

test('a damaged request is a request or an error that says so', () => {
  const sound = encodeRequest({
    ...{ type: ADDRESS_TYPE, nodeId: 'a~b~c', subscribe: ['x', 'y'], unsubscribe: ['z'] },
    ...{ held: { a: '1', b: '2' }, nonce: '7', refusal: 'no' },
  });
  fc.assert(
    fc.property(fc.nat(sound.length - 1), fc.nat(255), fc.nat(sound.length), (at, value, length) => {
      const bytes = Buffer.from(sound);
      bytes[at] = value;
      try {
        const read = new DiscoveryRequest(bytes.subarray(0, length));
        for (const { name } of read.held()) assert.equal(typeof name, 'string');
      } catch (thrown) {
        assert.ok(thrown instanceof AmbitError && ['DECODE', 'XDS'].includes(thrown.code), String(thrown));
      }
    }),
    { numRuns: 5000 },
  );
});

test('requests are read as a general decoder reads them', () => {
  const text = fc.string({ maxLength: 40, unit: 'grapheme' });
  const fields = fc.record({
    typeUrl: text,
    resourceNamesSubscribe: fc.array(text, { maxLength: 5 }),
    resourceNamesUnsubscribe: fc.array(text, { maxLength: 5 }),
    initialResourceVersions: fc.dictionary(text, text, { maxKeys: 5, noNullPrototype: true }),
    responseNonce: text,
    refusal: fc.option(text, { nil: undefined }),
    id: text,
  });
  fc.assert(
    fc.property(fields, ({ refusal, id, ...rest }) => {
      const errorDetail = refusal === undefined ? {} : { errorDetail: { message: refusal } };
      const message = create(DeltaDiscoveryRequestSchema, { ...rest, ...errorDetail, node: { id } });
      const read = new DiscoveryRequest(Buffer.from(toBinary(DeltaDiscoveryRequestSchema, message)));
      assert.deepEqual(
        {
          ...{ typeUrl: read.typeUrl, responseNonce: read.responseNonce, refusal: read.refusal, id: read.nodeId },
          resourceNamesSubscribe: [...read.subscribed()],
          resourceNamesUnsubscribe: [...read.unsubscribed()],
          initialResourceVersions: Object.fromEntries([...read.held()].map(({ name, version }) => [name, version])),
        },
        { ...rest, refusal, id },
      );
    }),
    { numRuns: 1000 },
  );
});
