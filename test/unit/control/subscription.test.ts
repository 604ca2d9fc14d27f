/** Delta subscriptions: wildcard, resume, on demand, restricted views, large answers, refusals, clients that do not answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { ADDRESS_TYPE, type Resource } from '../../../control/discovery/resource.ts';
import { DiscoveryRequest } from '../../../control/xds/discovery-request.ts';
import { READER_LIMITS, type ReaderLimits } from '../../../control/xds/reader.ts';
import { ResourceStore } from '../../../control/xds/resource-store.ts';
import { ResponseCache } from '../../../control/xds/response-cache.ts';
import { findServedType } from '../../../control/xds/served-types.ts';
import { SUBSCRIPTION_LIMITS, Subscription, type SubscriptionContext } from '../../../control/xds/subscription.ts';

function request(fields: MessageInitShape<typeof DeltaDiscoveryRequestSchema> = {}): DiscoveryRequest {
  const message = create(DeltaDiscoveryRequestSchema, { typeUrl: ADDRESS_TYPE, ...fields });
  return new DiscoveryRequest(Buffer.from(toBinary(DeltaDiscoveryRequestSchema, message)));
}

function resource(name: string, version: string, extra: Partial<Resource> = {}): Resource {
  const bytes = Buffer.from(`${name} ${version}`);
  return { name, version, bytes, aliases: [], services: [], node: '', privateTo: '', ...extra };
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

interface Options {
  readonly node?: string;
  readonly namespace?: string;
  readonly limits?: Partial<ReaderLimits>;
  readonly maxNames?: number;
  readonly cache?: ResponseCache;
}

function subscribe(store: ResourceStore, first = request(), options: Options = {}): Subscription {
  const type = findServedType(ADDRESS_TYPE);
  assert.ok(type);
  const { namespace } = options;
  const context: SubscriptionContext = {
    ...{ store, type, replica: 'one', cache: options.cache ?? new ResponseCache(store) },
    limits: { ...READER_LIMITS, ...options.limits },
    subscriptionLimits: { ...SUBSCRIPTION_LIMITS, maxNames: options.maxNames ?? SUBSCRIPTION_LIMITS.maxNames },
    node: options.node ?? '',
    sees: namespace === undefined ? undefined : ({ privateTo }) => privateTo === '' || privateTo === namespace,
  };
  return new Subscription(context, first);
}

/** Works until there is a response or nothing to do. */
function next(subscription: Subscription, holdRemovals = false): DeltaDiscoveryResponse | undefined {
  for (;;) {
    const step = subscription.step(holdRemovals);
    if (step.kind === 'more') continue;
    return step.kind === 'idle' ? undefined : fromBinary(DeltaDiscoveryResponseSchema, step.response.bytes);
  }
}

function got(response: DeltaDiscoveryResponse | undefined): { names: string[]; removed: string[] } | undefined {
  if (response === undefined) return undefined;
  return {
    names: response.resources.map((entry) => `${entry.name}@${entry.version}`),
    removed: response.removedResources,
  };
}

function acknowledge(subscription: Subscription, response: DeltaDiscoveryResponse | undefined): void {
  assert.equal(subscription.request(request({ responseNonce: response?.nonce ?? 'none' })).kind, 'ack');
}

/** Takes and acknowledges everything there is. */
function drain(subscription: Subscription): ReturnType<typeof got>[] {
  const all: ReturnType<typeof got>[] = [];
  for (let response = next(subscription); response !== undefined; response = next(subscription)) {
    all.push(got(response));
    acknowledge(subscription, response);
  }
  return all;
}

test('a first request without names gets everything, later only what changed and what went', () => {
  const store = storeWith(resource('a', '1'), resource('b', '1'));
  const subscription = subscribe(store);
  assert.deepEqual(drain(subscription), [{ names: ['a@1', 'b@1'], removed: [] }]);
  assert.ok(subscription.isSynced);
  publish(store, resource('b', '2'), resource('c', '1'));
  withdraw(store, 'a');
  assert.deepEqual(drain(subscription), [{ names: ['b@2', 'c@1'], removed: ['a'] }]);
  assert.deepEqual(drain(subscription), []);
});

test('the first response is sent although there is nothing: clients wait for it', () => {
  assert.deepEqual(drain(subscribe(storeWith())), [{ names: [], removed: [] }]);
});

test('a resource with equal content is not sent again', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = subscribe(store);
  drain(subscription);
  publish(store, resource('a', '1'));
  assert.deepEqual(drain(subscription), []);
});

test('a resumed client gets what differs from what it holds, and removals (WorkloadReconnect)', () => {
  const store = storeWith(resource('same', '1'), resource('changed', '2'), resource('new', '1'));
  const initialResourceVersions = { same: '1', changed: '1', gone: '7' };
  const subscription = subscribe(store, request({ initialResourceVersions }));
  assert.deepEqual(drain(subscription), [{ names: ['changed@2', 'new@1'], removed: ['gone'] }]);
});

test('a resumed client that holds everything gets one empty response', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = subscribe(store, request({ initialResourceVersions: { a: '1' } }));
  assert.deepEqual(drain(subscription), [{ names: [], removed: [] }]);
});

test('while a response waits for its answer nothing is sent, and changes gather into one response', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = subscribe(store);
  const first = next(subscription);
  for (let version = 2; version <= 500; version++) {
    publish(store, resource('a', String(version)), resource(`t-${version}`, '1'));
    withdraw(store, `t-${version}`);
    assert.equal(next(subscription), undefined);
  }
  acknowledge(subscription, first);
  const [second, ...more] = drain(subscription);
  assert.deepEqual(second?.names, ['a@500']);
  assert.deepEqual(more, []);
});

test('an answer to another response than the last changes nothing', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = subscribe(store);
  const first = next(subscription);
  acknowledge(subscription, first);
  publish(store, resource('a', '2'));
  next(subscription);
  assert.deepEqual(subscription.request(request({ responseNonce: first?.nonce ?? '' })), { kind: 'none' });
  assert.ok(subscription.isWaiting);
});

test('a refusal is reported, and the resource is sent again only when it changes', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = subscribe(store);
  const nonce = next(subscription)?.nonce ?? '';
  const answer = subscription.request(request({ responseNonce: nonce, errorDetail: { message: 'a: bad' } }));
  assert.deepEqual(answer, { kind: 'nack', nonce, sequence: 1, message: 'a: bad' });
  assert.deepEqual(drain(subscription), []);
  publish(store, resource('a', '2'));
  assert.deepEqual(drain(subscription), [{ names: ['a@2'], removed: [] }]);
});

test('a large answer is several messages, each after the answer to the one before', () => {
  const store = storeWith(...Array.from({ length: 10 }, (_, index) => resource(`r${index}`, '1')));
  const subscription = subscribe(store, request(), { limits: { responseBytes: 200 } });
  const all = drain(subscription);
  assert.ok(all.length > 2, `${all.length} messages`);
  assert.equal(new Set(all.flatMap((response) => response?.names ?? [])).size, 10);
});

test('between the parts of a large answer the newest content is sent, once', () => {
  const store = storeWith(resource('a', '1'), resource('b', '1'));
  const subscription = subscribe(store, request(), { limits: { responseBytes: 1 } });
  const first = next(subscription);
  assert.deepEqual(got(first)?.names, ['a@1']);
  publish(store, resource('b', '2'));
  acknowledge(subscription, first);
  assert.deepEqual(drain(subscription), [{ names: ['b@2'], removed: [] }]);
});

const ON_DEMAND = { resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] };

test('on demand: nothing until asked; a workload by uid or address; an unknown name is answered by its removal', () => {
  const store = storeWith(resource('uid-1', '1', { aliases: ['net/10.0.0.1'] }), resource('uid-2', '1'));
  const subscription = subscribe(store, request(ON_DEMAND));
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
    const subscription = subscribe(store, request(ON_DEMAND));
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
  const subscription = subscribe(store, request(ON_DEMAND), { node: 'a' });
  assert.deepEqual(drain(subscription), [{ names: ['uid-1@1'], removed: [] }]);
  publish(store, resource('uid-3', '1', { node: 'a' }), resource('uid-4', '1', { node: 'b' }));
  assert.deepEqual(drain(subscription), [{ names: ['uid-3@1'], removed: [] }]);
});

test('what is subscribed again is sent again: the client may have dropped it', () => {
  const store = storeWith(resource('a', '1'));
  const subscription = subscribe(store, request(ON_DEMAND));
  drain(subscription);
  subscription.request(request({ resourceNamesSubscribe: ['a'] }));
  drain(subscription);
  subscription.request(request({ resourceNamesSubscribe: ['a'] }));
  assert.deepEqual(drain(subscription), [{ names: ['a@1'], removed: [] }]);
});

test('more names than allowed are refused', () => {
  const store = storeWith();
  const names = Array.from({ length: 11 }, (_, index) => `n${index}`);
  assert.throws(() => subscribe(store, request({ resourceNamesSubscribe: names }), { maxNames: 10 }), { code: 'XDS' });
});

test('a client that subscribes and unsubscribes without end holds no more than its limit', () => {
  const store = storeWith();
  const subscription = subscribe(store, request(ON_DEMAND), { maxNames: 10 });
  const first = next(subscription);
  for (let round = 0; round < 1000; round++) {
    subscription.request(request({ resourceNamesSubscribe: [`n${round}`] }));
    subscription.request(request({ resourceNamesUnsubscribe: [`n${round}`] }));
  }
  acknowledge(subscription, first);
  assert.deepEqual(drain(subscription), []);
});

test('removals wait while they are held, everything else goes', () => {
  const store = storeWith(resource('a', '1'), resource('b', '1'));
  const subscription = subscribe(store);
  drain(subscription);
  withdraw(store, 'a');
  publish(store, resource('b', '2'));
  const held = next(subscription, true);
  assert.deepEqual(got(held), { names: ['b@2'], removed: [] });
  acknowledge(subscription, held);
  assert.equal(next(subscription, true), undefined);
  assert.deepEqual(drain(subscription), [{ names: [], removed: ['a'] }]);
});

test('the log forgets what everybody has read, and nothing else', () => {
  const store = storeWith(resource('a', '1'));
  const reader = subscribe(store);
  drain(reader);
  for (let round = 0; round < 5000; round++) {
    publish(store, resource(`t-${round}`, '1'));
    withdraw(store, `t-${round}`);
  }
  assert.equal(store.removals, 5000);
  store.trim(reader.position);
  assert.equal(store.removals, 5000, 'the reader has not read them');
  drain(reader);
  store.trim(reader.position);
  assert.equal(store.removals, 0);
  assert.equal(store.size, 1);
});

test('every part but the last says that more follows, and only after the last one is the client synced', () => {
  const store = storeWith(...Array.from({ length: 10 }, (_, index) => resource(`r${index}`, '1')));
  const subscription = subscribe(store, request(), { limits: { responseBytes: 200 } });
  const marks: boolean[] = [];
  for (let response = next(subscription); response !== undefined; response = next(subscription)) {
    marks.push((response.controlPlane?.identifier ?? '').includes('"More":true'));
    assert.ok(!subscription.isSynced);
    acknowledge(subscription, response);
    assert.equal(subscription.isSynced, !marks.at(-1));
  }
  assert.ok(marks.length > 2);
  assert.deepEqual(marks.indexOf(false), marks.length - 1);
});

test('clients at the same place get the same bytes, made once', () => {
  const store = storeWith(resource('a', '1'), resource('b', '1'));
  const cache = new ResponseCache(store);
  const [one, two] = [subscribe(store, request(), { cache }), subscribe(store, request(), { cache })];
  const [first, second] = [one.step(false), two.step(false)];
  assert.ok(first.kind === 'response' && second.kind === 'response');
  assert.equal(first.response.bytes, second.response.bytes);
  publish(store, resource('a', '2'));
  const late = subscribe(store, request(), { cache }).step(false);
  assert.ok(late.kind === 'response');
  assert.deepEqual(got(fromBinary(DeltaDiscoveryResponseSchema, late.response.bytes))?.names, ['b@1', 'a@2']);
});

test('a resumed client is compared in bounded steps, and changes meanwhile are not lost', () => {
  const store = storeWith(...Array.from({ length: 100 }, (_, index) => resource(`r${index}`, '1')));
  const held = Object.fromEntries(Array.from({ length: 99 }, (_, index) => [`r${index}`, '1']));
  const first = request({ initialResourceVersions: { ...held, gone: '1', r5: 'old' } });
  const subscription = subscribe(store, first, { limits: { stepEntries: 10 } });
  assert.equal(subscription.step(false).kind, 'more');
  publish(store, resource('r1', '2'), resource('r98', '2'), resource('new', '1'));
  withdraw(store, 'r0');
  const all = drain(subscription);
  assert.deepEqual(all.flatMap((part) => part?.names ?? []).sort(), ['new@1', 'r1@2', 'r5@1', 'r98@2', 'r99@1']);
  assert.deepEqual(all.flatMap((part) => part?.removed ?? []).sort(), ['gone', 'r0']);
});

test('a resumed client that holds everything costs a comparison and one empty response, not a walk of the log', () => {
  const store = storeWith(...Array.from({ length: 50 }, (_, index) => resource(`r${index}`, '1')));
  const held = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`r${index}`, '1']));
  const subscription = subscribe(store, request({ initialResourceVersions: held }), { limits: { stepEntries: 50 } });
  const kinds = [subscription.step(false).kind, subscription.step(false).kind, subscription.step(false).kind];
  assert.deepEqual(kinds, ['more', 'more', 'response']);
  assert.equal(subscription.position, store.sequence);
});

test('a client with a restricted view gets no more than it may see, and is told of nothing else', () => {
  const store = storeWith(resource('a', '1'), resource('secret', '1', { privateTo: 'other' }));
  const subscription = subscribe(store, request(), { namespace: 'shop' });
  assert.deepEqual(drain(subscription), [{ names: ['a@1'], removed: [] }]);
  withdraw(store, 'secret');
  assert.deepEqual(drain(subscription), []);
  publish(store, resource('a', '2', { privateTo: 'other' }));
  assert.deepEqual(drain(subscription), [{ names: [], removed: ['a'] }]);
  publish(store, resource('a', '3', { privateTo: 'shop' }));
  assert.deepEqual(drain(subscription), [{ names: ['a@3'], removed: [] }]);
  const asks = subscribe(store, request(ON_DEMAND), { namespace: 'elsewhere' });
  drain(asks);
  asks.request(request({ resourceNamesSubscribe: ['a'] }));
  assert.deepEqual(drain(asks), [{ names: [], removed: ['a'] }]);
});

test('a restricted client that resumes gets only what differs', () => {
  const store = storeWith(resource('a', '1'), resource('b', '2'), resource('c', '1', { privateTo: 'other' }));
  const first = request({ initialResourceVersions: { a: '1', b: '1', c: '1', d: '1' } });
  assert.deepEqual(drain(subscribe(store, first, { namespace: 'shop' })), [{ names: ['b@2'], removed: ['c', 'd'] }]);
});

test('on demand: a workload that leaves a service is still told to the client that has it', () => {
  const store = storeWith(resource('shop/web', '1'), resource('uid-1', '1', { services: ['shop/web'] }));
  const subscription = subscribe(store, request(ON_DEMAND));
  drain(subscription);
  subscription.request(request({ resourceNamesSubscribe: ['shop/web'] }));
  drain(subscription);
  publish(store, resource('uid-1', '2'));
  assert.deepEqual(drain(subscription), [{ names: ['uid-1@2'], removed: [] }]);
  withdraw(store, 'uid-1');
  assert.deepEqual(drain(subscription), [{ names: [], removed: ['uid-1'] }]);
  publish(store, resource('uid-9', '1'));
  withdraw(store, 'uid-9');
  assert.deepEqual(drain(subscription), [], 'what was never sent is not removed');
});

test('on demand: a service that comes later brings the endpoints that were there before it', () => {
  const store = storeWith(resource('uid-1', '1', { services: ['shop/web'] }));
  const subscription = subscribe(store, request(ON_DEMAND));
  drain(subscription);
  subscription.request(request({ resourceNamesSubscribe: ['net/10.96.0.1'] }));
  assert.deepEqual(drain(subscription), [{ names: [], removed: ['net/10.96.0.1'] }]);
  publish(store, resource('shop/web', '1', { aliases: ['net/10.96.0.1'] }));
  assert.deepEqual(drain(subscription), [{ names: ['shop/web@1', 'uid-1@1'], removed: [] }]);
});

test('on demand: a resumed client keeps being told of what it holds, and of what it waited for', () => {
  const store = storeWith(resource('uid-1', '1'), resource('uid-2', '1', { aliases: ['net/10.0.0.2'] }));
  const first = request({ ...ON_DEMAND, initialResourceVersions: { 'uid-1': '1', 'net/10.0.0.2': '' } });
  const subscription = subscribe(store, first);
  assert.deepEqual(drain(subscription), [{ names: ['uid-2@1'], removed: [] }]);
  publish(store, resource('uid-1', '2'));
  assert.deepEqual(drain(subscription), [{ names: ['uid-1@2'], removed: [] }]);
});

test('on demand: a resumed client gets the endpoints that joined its services while it was away', () => {
  const store = storeWith(
    resource('shop/web', '1'),
    resource('uid-1', '1', { services: ['shop/web'] }),
    resource('uid-2', '1', { services: ['shop/web'] }),
  );
  const first = request({ ...ON_DEMAND, initialResourceVersions: { 'shop/web': '1', 'uid-1': '1' } });
  assert.deepEqual(drain(subscribe(store, first)), [{ names: ['uid-2@1'], removed: [] }]);
});

test('a client can go from everything to names and back', () => {
  const store = storeWith(resource('a', '1'), resource('b', '1'));
  const subscription = subscribe(store, request({ resourceNamesSubscribe: ['*', 'a'] }));
  assert.deepEqual(drain(subscription), [{ names: ['a@1', 'b@1'], removed: [] }]);
  subscription.request(request({ resourceNamesUnsubscribe: ['*'] }));
  assert.deepEqual(drain(subscription), [{ names: ['a@1'], removed: [] }]);
  publish(store, resource('a', '2'), resource('b', '2'));
  assert.deepEqual(drain(subscription), [{ names: ['a@2'], removed: [] }]);
  subscription.request(request({ resourceNamesSubscribe: ['*'] }));
  assert.deepEqual(drain(subscription), [{ names: ['a@2', 'b@2'], removed: [] }]);
});

for (const namespace of [undefined, 'shop']) {
  const who = namespace === undefined ? 'a client' : 'a restricted client';
  test(`${who} that goes from names to everything is still told of what went meanwhile`, () => {
    const store = storeWith(resource('a', '1'), resource('b', '1'), resource('c', '1'));
    const options = namespace === undefined ? {} : { namespace };
    const subscription = subscribe(store, request({ resourceNamesSubscribe: ['a', 'b'] }), options);
    assert.deepEqual(drain(subscription), [{ names: ['a@1', 'b@1'], removed: [] }]);
    withdraw(store, 'a');
    subscription.request(request({ resourceNamesSubscribe: ['*', 'nobody'] }));
    const all = drain(subscription);
    assert.deepEqual(all.flatMap((each) => each?.names).sort(), ['b@1', 'c@1']);
    assert.deepEqual(all.flatMap((each) => each?.removed).sort(), ['a', 'nobody']);
    withdraw(store, 'b');
    assert.deepEqual(drain(subscription), [{ names: [], removed: ['b'] }]);
  });
}
