/** Delta subscriptions: wildcard, resume, on demand, large answers, refusals, and clients that do not answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
} from '../../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { ADDRESS_TYPE, type Resource } from '../../../control/discovery/resource.ts';
import { ResourceStore } from '../../../control/xds/resource-store.ts';
import { SUBSCRIPTION_LIMITS, Subscription } from '../../../control/xds/subscription.ts';

function request(fields: MessageInitShape<typeof DeltaDiscoveryRequestSchema> = {}): DeltaDiscoveryRequest {
  return create(DeltaDiscoveryRequestSchema, { typeUrl: ADDRESS_TYPE, ...fields });
}

function resource(name: string, version: string, extra: Partial<Resource> = {}): Resource {
  return { name, version, bytes: Buffer.from(`${name} ${version}`), aliases: [], services: [], node: '', privateTo: '', ...extra };
}

function storeWith(...resources: Resource[]): ResourceStore {
  const store = new ResourceStore(ADDRESS_TYPE);
  publish(store, ...resources);
  return store;
}

function publish(store: ResourceStore, ...resources: Resource[]): void {
  store.publish(resources.map((entry) => ({ type: ADDRESS_TYPE, name: entry.name, resource: entry })));
}

function withdraw(store: ResourceStore, ...names: string[]): void {
  store.publish(names.map((name) => ({ type: ADDRESS_TYPE, name, resource: undefined })));
}

function got(response: DeltaDiscoveryResponse | undefined): { names: string[]; removed: string[] } | undefined {
  if (response === undefined) return undefined;
  return {
    names: response.resources.map((entry) => `${entry.name}@${entry.version}`),
    removed: response.removedResources,
  };
}

function acknowledge(subscription: Subscription, response: DeltaDiscoveryResponse | undefined): void {
  assert.deepEqual(subscription.request(request({ responseNonce: response?.nonce ?? 'none' })), { kind: 'ack' });
}

/** Takes and acknowledges everything there is. */
function drain(subscription: Subscription): ReturnType<typeof got>[] {
  const all: ReturnType<typeof got>[] = [];
  for (let response = subscription.next(); response !== undefined; response = subscription.next()) {
    all.push(got(response));
    acknowledge(subscription, response);
  }
  return all;
}

test('a first request without names gets everything, later only what changed and what went', () => {
  const store = storeWith(resource('a', '1'), resource('b', '1'));
  const subscription = new Subscription(store, request(), '');
  assert.deepEqual(drain(subscription), [{ names: ['a@1', 'b@1'], removed: [] }]);
  assert.ok(subscription.isIdle);
  publish(store, resource('b', '2'), resource('c', '1'));
  withdraw(store, 'a');
  assert.deepEqual(drain(subscription), [{ names: ['b@2', 'c@1'], removed: ['a'] }]);
  assert.deepEqual(drain(subscription), []);
});

test('the first response is sent although there is nothing: clients wait for it', () => {
  assert.deepEqual(drain(new Subscription(storeWith(), request(), '')), [{ names: [], removed: [] }]);
});

test('a resource with equal content is not sent again', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = new Subscription(store, request(), '');
  drain(subscription);
  publish(store, resource('a', '1'));
  assert.deepEqual(drain(subscription), []);
});

test('a resumed client gets what differs from what it holds, and removals (WorkloadReconnect)', () => {
  const store = storeWith(resource('same', '1'), resource('changed', '2'), resource('new', '1'));
  const initialResourceVersions = { same: '1', changed: '1', gone: '7' };
  const subscription = new Subscription(store, request({ initialResourceVersions }), '');
  assert.deepEqual(drain(subscription), [{ names: ['changed@2', 'new@1'], removed: ['gone'] }]);
});

test('a resumed client that holds everything gets one empty response', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = new Subscription(store, request({ initialResourceVersions: { a: '1' } }), '');
  assert.deepEqual(drain(subscription), [{ names: [], removed: [] }]);
});

test('while a response waits for its answer nothing is sent, and changes gather into one response', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = new Subscription(store, request(), '');
  const first = subscription.next();
  for (let version = 2; version <= 500; version++) {
    publish(store, resource('a', String(version)), resource(`t-${version}`, '1'));
    withdraw(store, `t-${version}`);
    assert.equal(subscription.next(), undefined);
  }
  acknowledge(subscription, first);
  const [second, ...more] = drain(subscription);
  assert.deepEqual(second?.names, ['a@500']);
  assert.deepEqual(more, []);
});

test('an answer to another response than the last changes nothing', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = new Subscription(store, request(), '');
  const first = subscription.next();
  acknowledge(subscription, first);
  publish(store, resource('a', '2'));
  subscription.next();
  assert.deepEqual(subscription.request(request({ responseNonce: first?.nonce ?? '' })), { kind: 'none' });
  assert.ok(subscription.isWaiting);
});

test('a refusal is reported, and the resource is sent again only when it changes', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = new Subscription(store, request(), '');
  const nonce = subscription.next()?.nonce ?? '';
  const answer = subscription.request(request({ responseNonce: nonce, errorDetail: { message: 'a: bad' } }));
  assert.deepEqual(answer, { kind: 'nack', message: 'a: bad' });
  assert.deepEqual(drain(subscription), []);
  publish(store, resource('a', '2'));
  assert.deepEqual(drain(subscription), [{ names: ['a@2'], removed: [] }]);
});

test('a large answer is several messages, each after the answer to the one before', () => {
  const store = storeWith(...Array.from({ length: 10 }, (_, index) => resource(`r${index}`, '1')));
  const limits = { ...SUBSCRIPTION_LIMITS, responseBytes: 400 };
  const subscription = new Subscription(store, request(), '', limits);
  const all = drain(subscription);
  assert.ok(all.length > 2, `${all.length} messages`);
  assert.equal(new Set(all.flatMap((response) => response?.names ?? [])).size, 10);
});

test('between the parts of a large answer the newest content is sent, once', () => {
  const store = storeWith(resource('a', '1'), resource('b', '1'));
  const subscription = new Subscription(store, request(), '', { ...SUBSCRIPTION_LIMITS, responseBytes: 1 });
  const first = subscription.next();
  assert.deepEqual(got(first)?.names, ['a@1']);
  publish(store, resource('b', '2'));
  acknowledge(subscription, first);
  assert.deepEqual(drain(subscription), [{ names: ['b@2'], removed: [] }]);
});

const ON_DEMAND = { resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] };

test('on demand: nothing until asked; a workload by uid or address; an unknown name is answered by its removal', () => {
  const store = storeWith(resource('uid-1', '1', { aliases: ['net/10.0.0.1'] }), resource('uid-2', '1'));
  const subscription = new Subscription(store, request(ON_DEMAND), '');
  assert.deepEqual(drain(subscription), [{ names: [], removed: [] }]);
  subscription.request(request({ resourceNamesSubscribe: ['net/10.0.0.1', 'net/10.9.9.9'] }));
  assert.deepEqual(drain(subscription), [{ names: ['uid-1@1'], removed: ['net/10.9.9.9'] }]);
  publish(store, resource('uid-1', '2', { aliases: ['net/10.0.0.1'] }), resource('uid-2', '2'));
  assert.deepEqual(drain(subscription), [{ names: ['uid-1@2'], removed: [] }]);
  subscription.request(request({ resourceNamesUnsubscribe: ['net/10.0.0.1'] }));
  publish(store, resource('uid-1', '3', { aliases: ['net/10.0.0.1'] }));
  assert.deepEqual(drain(subscription), []);
});

test('on demand: a service brings its endpoints, also those that come later, also when asked for by its address', () => {
  for (const key of ['shop/web', 'net/10.96.0.1']) {
    const store = storeWith(
      resource('shop/web', '1', { aliases: ['net/10.96.0.1'] }),
      resource('uid-1', '1', { services: ['shop/web'] }),
      resource('uid-2', '1', { services: ['shop/other'] }),
    );
    const subscription = new Subscription(store, request(ON_DEMAND), '');
    drain(subscription);
    subscription.request(request({ resourceNamesSubscribe: [key] }));
    assert.deepEqual(drain(subscription), [{ names: ['shop/web@1', 'uid-1@1'], removed: [] }]);
    publish(
      store,
      resource('uid-2', '2', { services: ['shop/web'] }),
      resource('uid-3', '1', { services: ['shop/other'] }),
    );
    assert.deepEqual(drain(subscription), [{ names: ['uid-2@2'], removed: [] }]);
  }
});

test('on demand: workloads of the own node come without asking', () => {
  const store = storeWith(resource('uid-1', '1', { node: 'a' }), resource('uid-2', '1', { node: 'b' }));
  const subscription = new Subscription(store, request(ON_DEMAND), 'a');
  assert.deepEqual(drain(subscription), [{ names: ['uid-1@1'], removed: [] }]);
  publish(store, resource('uid-3', '1', { node: 'a' }), resource('uid-4', '1', { node: 'b' }));
  assert.deepEqual(drain(subscription), [{ names: ['uid-3@1'], removed: [] }]);
});

test('what is subscribed again is sent again: the client may have dropped it', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = new Subscription(store, request(ON_DEMAND), '');
  drain(subscription);
  subscription.request(request({ resourceNamesSubscribe: ['a'] }));
  drain(subscription);
  subscription.request(request({ resourceNamesSubscribe: ['a'] }));
  assert.deepEqual(drain(subscription), [{ names: ['a@1'], removed: [] }]);
});

test('more names than allowed are refused', () => {
  const store = storeWith();
  const limits = { ...SUBSCRIPTION_LIMITS, maxNames: 10 };
  const names = Array.from({ length: 11 }, (_, index) => `n${index}`);
  assert.throws(() => new Subscription(store, request({ resourceNamesSubscribe: names }), '', limits), { code: 'XDS' });
});

test('a client that subscribes and unsubscribes without end holds no more than its limit', () => {
  const store = storeWith();
  const limits = { ...SUBSCRIPTION_LIMITS, maxNames: 10 };
  const subscription = new Subscription(store, request(ON_DEMAND), '', limits);
  const first = subscription.next();
  for (let round = 0; round < 1000; round++) {
    subscription.request(request({ resourceNamesSubscribe: [`n${round}`] }));
    subscription.request(request({ resourceNamesUnsubscribe: [`n${round}`] }));
  }
  acknowledge(subscription, first);
  assert.deepEqual(drain(subscription), []);
});

test('removals wait while they are held, everything else goes', () => {
  const store = storeWith(resource('a', '1'), resource('b', '1'));
  const subscription = new Subscription(store, request(), '');
  drain(subscription);
  withdraw(store, 'a');
  publish(store, resource('b', '2'));
  const held = subscription.next(true);
  assert.deepEqual(got(held), { names: ['b@2'], removed: [] });
  acknowledge(subscription, held);
  assert.equal(subscription.next(true), undefined);
  assert.deepEqual(drain(subscription), [{ names: [], removed: ['a'] }]);
});

test('the log forgets what everybody has read, and nothing else', () => {
  const store = storeWith(resource('a', '1'));
  const reader = new Subscription(store, request(), '');
  drain(reader);
  for (let round = 0; round < 5000; round++) {
    publish(store, resource(`t-${round}`, '1'));
    withdraw(store, `t-${round}`);
  }
  assert.equal(store.removals, 5000);
  store.trim(reader.synced);
  assert.equal(store.removals, 5000, 'the reader has not read them');
  drain(reader);
  store.trim(reader.synced);
  assert.equal(store.removals, 0);
  assert.equal(store.size, 1);
});
