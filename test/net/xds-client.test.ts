import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { authorize } from '../../agent/route/authorize.ts';
import { MeshState } from '../../agent/state/mesh-state.ts';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, type ResourceUpdate } from '../../agent/state/resource.ts';
import { ResourceFeed } from '../../agent/state/resource-feed.ts';
import { XdsClient, type XdsClientOptions } from '../../agent/state/xds-client.ts';
import { xdsNode } from '../../agent/state/xds-node.ts';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryResponseSchema,
} from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { formatControlPlaneIdentifier } from '../../core/control-plane-identifier.ts';
import { AmbitError } from '../../core/errors.ts';
import { getIp } from '../../core/ip.ts';
import { ControlServer, type DiscoveryCall } from '../support/control-server.ts';
import { policy, service, type TestResource, workload } from '../support/mesh-resources.ts';

const DEADLINE_MS = 5_000;

/** The server's end of one stream: requests in the order they came, responses with nonces. */
class Conversation {
  readonly #call: DiscoveryCall;
  readonly #requests: DeltaDiscoveryRequest[] = [];
  #wake: () => void = () => {};
  #nonce = 0;

  constructor(call: DiscoveryCall) {
    this.#call = call;
    call.on('data', (request: DeltaDiscoveryRequest) => {
      this.#requests.push(request);
      this.#wake();
    });
  }

  async next(): Promise<DeltaDiscoveryRequest> {
    while (this.#requests.length === 0)
      await within(
        new Promise<void>((resolve) => {
          this.#wake = resolve;
        }),
        'a request',
      );
    const request = this.#requests.shift();
    assert.ok(request);
    return request;
  }

  /** The two subscriptions every stream begins with: addresses, policies. They come in the other order. */
  async subscriptions(): Promise<[DeltaDiscoveryRequest, DeltaDiscoveryRequest]> {
    const policies = await this.next();
    assert.equal(policies.typeUrl, AUTHORIZATION_TYPE);
    return [await this.next(), policies];
  }

  /** Sends a response and waits for what the client says to it: undefined, or why it refuses. */
  async push(
    typeUrl: string,
    resources: readonly TestResource[],
    removedResources: string[] = [],
    more = false,
  ): Promise<string | undefined> {
    const nonce = `${++this.#nonce}`;
    this.#call.write(
      create(DeltaDiscoveryResponseSchema, {
        typeUrl,
        nonce,
        controlPlane: { identifier: formatControlPlaneIdentifier('replica', more) },
        removedResources,
        resources: resources.map(({ name, version, bytes, typeUrl: type }) => ({
          name,
          version,
          resource: { typeUrl: type, value: bytes },
        })),
      }),
    );
    const answer = await this.next();
    assert.deepEqual([answer.responseNonce, answer.typeUrl, answer.node], [nonce, typeUrl, undefined]);
    return answer.errorDetail?.message;
  }

  end(): void {
    this.#call.end();
  }

  get closed(): Promise<unknown> {
    return within(once(this.#call, 'cancelled'), 'the end of the stream');
  }
}

function within<Value>(promise: Promise<Value>, what: string): Promise<Value> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`waited too long for ${what}`)), DEADLINE_MS);
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

class World {
  readonly feed = new ResourceFeed(new MeshState());
  readonly client: XdsClient;
  readonly server: ControlServer;
  #arrivals: Conversation[] = [];
  #wake: () => void = () => {};

  constructor(server: ControlServer, options: Partial<XdsClientOptions>) {
    this.server = server;
    server.onStream = (call) => {
      this.#arrivals.push(new Conversation(call));
      this.#wake();
    };
    const node = xdsNode({
      nodeName: 'node-1',
      podName: 'agent-1',
      podNamespace: 'system',
      metadata: { NETWORK: 'n' },
    });
    this.client = new XdsClient(this.feed, {
      endpoint: server.endpoint,
      node,
      firstBackoffMs: 10,
      maxBackoffMs: 50,
      ...options,
    });
    this.client.start();
  }

  get state(): MeshState {
    return this.feed.state;
  }

  /** The next stream the client opens. */
  async stream(): Promise<Conversation> {
    while (this.#arrivals.length === 0)
      await within(
        new Promise<void>((resolve) => {
          this.#wake = resolve;
        }),
        'a stream',
      );
    const conversation = this.#arrivals.shift();
    assert.ok(conversation);
    return conversation;
  }
}

async function withWorld(run: (world: World) => Promise<void>, options: Partial<XdsClientOptions> = {}): Promise<void> {
  const world = new World(await ControlServer.start(), options);
  try {
    await run(world);
  } finally {
    world.client.stop();
    world.server.close();
  }
}

/** True when the promise is settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), new Promise<boolean>((resolve) => setImmediate(resolve, false))]);
}

const A = workload('a', { ips: ['10.0.0.1'] });
const B = workload('b', { ips: ['10.0.0.2'] });
const WEB = service('web', { vips: ['10.1.0.1'] });
const P = policy('p');
const BROKEN: TestResource = { ...workload('broken', { ips: [] }), bytes: Uint8Array.of(255, 255) };

describe('a stream', () => {
  test('begins with a wildcard subscription of each type, with the node and nothing held', () =>
    withWorld(async (world) => {
      const subscriptions = await (await world.stream()).subscriptions();
      assert.deepEqual(
        subscriptions.map(({ typeUrl }) => typeUrl),
        [ADDRESS_TYPE, AUTHORIZATION_TYPE],
      );
      for (const { node, resourceNamesSubscribe, initialResourceVersions, responseNonce } of subscriptions) {
        assert.equal(node?.id, 'ztunnel~1.1.1.1~agent-1.system~system.svc.cluster.local');
        assert.deepEqual(node?.metadata, {
          NAME: 'agent-1',
          NAMESPACE: 'system',
          INSTANCE_IPS: '1.1.1.1',
          NODE_NAME: 'node-1',
          NETWORK: 'n',
        });
        assert.deepEqual([resourceNamesSubscribe, initialResourceVersions, responseNonce], [[], {}, '']);
      }
      assert.equal(world.server.streams[0]?.metadata.get('authorization')[0], 'Bearer first-token');
      assert.equal(world.server.streams[0]?.metadata.get('clusterid')[0], 'cluster-1');
    }));

  test('is synchronised when the first response of every type is in force', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      await stream.subscriptions();
      assert.equal(await stream.push(ADDRESS_TYPE, [A, WEB]), undefined);
      assert.equal(world.state.findWorkloadByUid(A.name)?.name, 'a');
      assert.equal(await isSettled(world.client.synced), false);
      assert.equal(await stream.push(AUTHORIZATION_TYPE, [P]), undefined);
      assert.equal(world.state.findPolicy('default/p')?.name, 'p');
      await within(world.client.synced, 'synchronisation');
    }));

  test('tells subscribers of no workload before the first answer about policies is in force', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      const heard: string[] = [];
      world.feed.subscribe(({ updated }) => heard.push(...updated.map(({ name }) => name)));
      assert.equal(await stream.subscriptions().then(() => stream.push(ADDRESS_TYPE, [A])), undefined);
      assert.deepEqual([heard, [...world.feed.snapshot()]], [[], []], 'neither workers nor their replacements');
      await stream.push(AUTHORIZATION_TYPE, [P]);
      await stream.push(ADDRESS_TYPE, [B]);
      assert.deepEqual(heard, [P.name, A.name, B.name]);
    }));

  test('tells subscribers of no workload before the last part of the first answer is in force', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      const heard: string[] = [];
      world.feed.subscribe(({ updated }) => heard.push(...updated.map(({ name }) => name)));
      await stream.subscriptions();
      await stream.push(AUTHORIZATION_TYPE, []);
      await stream.push(ADDRESS_TYPE, [A], [], true);
      assert.deepEqual([heard, [...world.feed.snapshot()]], [[], []], 'a would call b in plain text');
      assert.equal(await isSettled(world.client.synced), false);
      await stream.push(ADDRESS_TYPE, [B]);
      assert.deepEqual(heard, [A.name, B.name]);
      await within(world.client.synced, 'synchronisation');
    }));

  test('is synchronised also when a part of the first response was refused', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      await stream.subscriptions();
      assert.match((await stream.push(ADDRESS_TYPE, [A, BROKEN])) ?? '', /broken/);
      await stream.push(AUTHORIZATION_TYPE, []);
      await within(world.client.synced, 'synchronisation');
    }));

  test('refuses what is bad by name and takes the rest of the response', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      await stream.subscriptions();
      const misnamed = { ...B, name: 'somebody-else' };
      const mistyped = { ...WEB, typeUrl: AUTHORIZATION_TYPE };
      const reasons = await stream.push(ADDRESS_TYPE, [A, BROKEN, misnamed, mistyped]);
      for (const name of [BROKEN.name, 'somebody-else', WEB.name])
        assert.ok(reasons?.includes(`${name}: `), `${name} in ${reasons}`);
      assert.deepEqual(world.state.sizes, { workloads: 1, services: 0, policies: 0 });
    }));

  test('denies what a policy is for that it cannot read, until it can, and keeps the last one it could read', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      await stream.subscriptions();
      const heard: string[] = [];
      world.feed.subscribe(({ updated, removed }) => heard.push(...updated.map(({ name }) => name), ...removed));
      const unreadable = { ...P, version: 'new', bytes: Uint8Array.of(255, 255) };
      assert.match((await stream.push(AUTHORIZATION_TYPE, [unreadable])) ?? '', /default\/p: /);
      assert.equal(world.state.findPolicy(P.name)?.action, 'DENY');
      const [workloadA] = [workload('a', { ips: ['10.0.0.1'] })];
      await stream.push(ADDRESS_TYPE, [workloadA]);
      const local = world.state.findWorkloadByUid(workloadA.name);
      assert.ok(local);
      const facts = {
        source: undefined,
        sourceIp: getIp('10.0.0.9'),
        destinationIp: getIp('10.0.0.1'),
        destinationPort: 80,
      };
      assert.equal(authorize(world.state, local, facts).kind, 'deny');
      assert.deepEqual(world.feed.store.versions(AUTHORIZATION_TYPE), { [P.name]: '' }, 'asked for again');
      assert.equal(await stream.push(AUTHORIZATION_TYPE, [P]), undefined);
      assert.equal(world.state.findPolicy(P.name)?.action, 'ALLOW');
      await stream.push(AUTHORIZATION_TYPE, [unreadable]);
      assert.equal(world.state.findPolicy(P.name)?.action, 'ALLOW', 'the version in force stays');
      await stream.push(AUTHORIZATION_TYPE, [], [P.name]);
      assert.equal(authorize(world.state, local, facts).kind, 'allow');
      assert.deepEqual(heard, [P.name, workloadA.name, P.name, P.name]);
    }));

  test('names at most fifty refusals', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      await stream.subscriptions();
      const many = Array.from({ length: 80 }, (_, index) => ({ ...BROKEN, name: `broken-${index}` }));
      const reasons = await stream.push(ADDRESS_TYPE, many);
      assert.equal(reasons?.split('; ').length, 51);
      assert.match(reasons ?? '', /30 more$/);
    }));

  test('keeps no more resources than the limit, and still updates those it has', () =>
    withWorld(
      async (world) => {
        const stream = await world.stream();
        await stream.subscriptions();
        assert.match((await stream.push(ADDRESS_TYPE, [A, B])) ?? '', /b: more than 1 resources/);
        assert.equal(await stream.push(ADDRESS_TYPE, [workload('a', { ips: ['10.0.0.9'] })]), undefined);
        assert.deepEqual(world.state.findWorkloadByUid(A.name)?.addresses, ['10.0.0.9']);
      },
      { maxResources: 1 },
    ));

  test('refuses a type nobody subscribed to', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      await stream.subscriptions();
      assert.match(
        (await stream.push('type.googleapis.com/envoy.config.listener.v3.Listener', [])) ?? '',
        /not subscribed/,
      );
    }));

  test('counts what came, and why streams ended', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      await stream.subscriptions();
      await stream.push(ADDRESS_TYPE, [A]);
      await stream.push(ADDRESS_TYPE, [B]);
      const { connected, messages, messageBytes } = world.client.stats;
      assert.deepEqual([connected, messages], [true, { [ADDRESS_TYPE]: 2 }]);
      assert.equal(messageBytes[ADDRESS_TYPE], A.bytes.length + B.bytes.length);
      stream.end();
      await world.stream();
      assert.equal(world.client.stats.terminations.Complete, 1);
    }));
});

describe('resuming', () => {
  test('names the versions held and not what was refused, and keeps the state meanwhile', () =>
    withWorld(async (world) => {
      const first = await world.stream();
      await first.subscriptions();
      await first.push(ADDRESS_TYPE, [{ ...A, version: 'v7' }, BROKEN, WEB]);
      await first.push(ADDRESS_TYPE, [], [WEB.name]);
      await first.push(AUTHORIZATION_TYPE, [P]);
      await world.server.restart();
      const second = await world.stream();
      assert.equal(world.state.findWorkloadByUid(A.name)?.name, 'a');
      const [addresses, policies] = await second.subscriptions();
      assert.deepEqual(addresses.initialResourceVersions, { [A.name]: 'v7' });
      assert.deepEqual(policies.initialResourceVersions, { [P.name]: '1' });
      assert.equal(await second.push(ADDRESS_TYPE, [B], [A.name]), undefined);
      assert.deepEqual(world.state.sizes, { workloads: 1, services: 0, policies: 1 });
    }));

  test('after a refused update names the version that is in force', () =>
    withWorld(async (world) => {
      const first = await world.stream();
      await first.subscriptions();
      await first.push(ADDRESS_TYPE, [{ ...A, version: 'good' }]);
      await first.push(ADDRESS_TYPE, [{ ...A, version: 'bad', bytes: Uint8Array.of(255) }]);
      first.end();
      const [addresses] = await (await world.stream()).subscriptions();
      assert.deepEqual(addresses.initialResourceVersions, { [A.name]: 'good' });
    }));

  test('happens after every kind of end, and reads token and roots again', () =>
    withWorld(async (world) => {
      (await world.stream()).end();
      world.server.writeFile('token', 'second-token');
      await world.stream();
      assert.equal(world.server.streams.at(-1)?.metadata.get('authorization')[0], 'Bearer second-token');
      world.server.streams.at(-1)?.emit('error', { code: 14, details: 'try later' });
      await world.stream();
      world.server.streams.at(-1)?.emit('error', { code: 16, details: 'who are you' });
      await world.stream();
      const { Complete, ConnectionError, Error: other } = world.client.stats.terminations;
      assert.deepEqual([Complete, ConnectionError, other], [1, 1, 1]);
    }));

  test('asks again soon while it knows nothing and nobody answers, but not once it was answered', async () => {
    const server = await ControlServer.start();
    let attempts = 0;
    const askForRoots = async (): Promise<string> => {
      if (++attempts < 5) throw new AmbitError('CONFIGURATION', 'no roots yet');
      return server.root.pem;
    };
    const endpoint = { ...server.endpoint, rootCaFile: '/does/not/exist', askForRoots };
    const world = new World(server, { endpoint, firstBackoffMs: 60_000, maxBackoffMs: 60_000, maxFirstWaitMs: 5 });
    try {
      await world.stream();
      assert.equal(attempts, 5);
      server.streams.at(-1)?.emit('error', { code: 16, details: 'who are you' });
      while (world.client.stats.terminations.Error < 5) await new Promise((resolve) => setImmediate(resolve));
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal(attempts, 5);
    } finally {
      world.client.stop();
      server.close();
    }
  });

  test('pauses longer and longer while it is turned away', () =>
    withWorld(
      async (world) => {
        const startedMs = performance.now();
        for (let i = 0; i < 5; i++) {
          await world.stream();
          world.server.streams.at(-1)?.emit('error', { code: 16, details: 'who are you' });
        }
        // Pauses of at least 10, 20, 40 and 80 ms lie between five streams; timers may fire a millisecond early.
        assert.ok(performance.now() - startedMs >= 140);
      },
      { firstBackoffMs: 20, maxBackoffMs: 10_000 },
    ));

  test('also pauses after errors that are not of the network', () =>
    withWorld(async (world) => {
      await world.stream();
      const startedMs = performance.now();
      world.server.writeFile('token', '');
      world.server.streams.at(-1)?.emit('error', { code: 16, details: 'who are you' });
      while (world.client.stats.terminations.Error < 4) await new Promise((resolve) => setImmediate(resolve));
      assert.ok(performance.now() - startedMs >= 5 + 10 + 20 - 3, 'each failure was followed by a pause');
      world.server.writeFile('token', 'good-again');
      await world.stream();
    }));
});

describe('stopping', () => {
  test('ends the stream and does not come back', () =>
    withWorld(async (world) => {
      const stream = await world.stream();
      await stream.subscriptions();
      const { closed } = stream;
      world.client.stop();
      await closed;
      assert.equal(world.client.stats.connected, false);
      assert.equal(world.server.streams.length, 1);
    }));
});

describe('the feed', () => {
  test('gives a late subscriber everything and then every change, without what was refused', () => {
    const feed = new ResourceFeed(new MeshState());
    feed.apply({ typeUrl: ADDRESS_TYPE, updated: [A, BROKEN, WEB], removed: [] });
    feed.apply({ typeUrl: AUTHORIZATION_TYPE, updated: [P], removed: [] });
    feed.apply({ typeUrl: ADDRESS_TYPE, updated: [], removed: [WEB.name] });
    const copy = new MeshState();
    const received: ResourceUpdate[] = [];
    const unsubscribe = feed.subscribe((update) => {
      received.push(update);
      assert.deepEqual(copy.apply(update).errors, []);
    });
    assert.deepEqual(copy.sizes, feed.state.sizes);
    feed.apply({ typeUrl: ADDRESS_TYPE, updated: [BROKEN], removed: [] });
    assert.equal(received.length, 2, 'what changes nothing is not passed on');
    feed.apply({ typeUrl: ADDRESS_TYPE, updated: [B, BROKEN], removed: [A.name] });
    assert.deepEqual(
      [...copy.workloads()].map(({ name }) => name),
      ['b'],
    );
    unsubscribe();
    feed.apply({ typeUrl: ADDRESS_TYPE, updated: [A], removed: [] });
    assert.equal(received.length, 3);
  });

  test('hands on a large state and a large change in batches that add up to it', () => {
    const feed = new ResourceFeed(new MeshState());
    const updated = Array.from({ length: 1_100 }, (_, index) => workload(`w-${index}`, { ips: ['10.0.0.1'] }));
    const early: ResourceUpdate[] = [];
    feed.subscribe((update) => early.push(update));
    feed.apply({ typeUrl: ADDRESS_TYPE, updated, removed: [] });
    const late: ResourceUpdate[] = [];
    feed.subscribe((update) => late.push(update));
    for (const batches of [early, late]) {
      assert.deepEqual(
        batches.map(({ updated: some }) => some.length),
        [500, 500, 100],
      );
      assert.deepEqual(
        batches.flatMap(({ updated: some }) => some.map(({ name }) => name)),
        updated.map(({ name }) => name),
      );
    }
    feed.apply({ typeUrl: ADDRESS_TYPE, updated: [A], removed: updated.map(({ name }) => name) });
    assert.deepEqual(
      late.slice(3).map(({ updated: some, removed }) => [some.length, removed.length]),
      [
        [1, 0],
        [0, 500],
        [0, 500],
        [0, 100],
      ],
    );
  });
});
