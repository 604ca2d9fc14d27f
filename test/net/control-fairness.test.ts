/** From the source to a client through pipeline, builder and discovery: bursts are joined, and churn delays nobody else. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { podObject } from '../../bench/control/mesh-objects.ts';
import { MeshBuilder } from '../../control/discovery/mesh-builder.ts';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../control/discovery/resource.ts';
import { MeshPipeline } from '../../control/mesh-pipeline.ts';
import { ObjectStore } from '../../control/model/object-store.ts';
import { type MeshObject, objectKey } from '../../control/objects/object.ts';
import type { Source, SourceSink } from '../../control/sources/source.ts';
import { objectOf, SETTINGS } from '../support/control.ts';
import { openRawSession, RawXdsStream } from '../support/raw-xds-client.ts';
import { slowness } from '../support/slowness.ts';
import { agentToken, XdsServer } from '../support/xds-server.ts';

const SIZE = { pods: 0, services: 2, nodes: 10, namespaces: 2 };

class MemorySource implements Source {
  #sink: SourceSink | undefined;

  async start(sink: SourceSink): Promise<void> {
    this.#sink = sink;
    sink.synced();
  }

  put(...objects: MeshObject[]): void {
    this.#sink?.changed({ upserted: objects, removed: [] });
  }

  remove(object: MeshObject): void {
    this.#sink?.changed({ upserted: [], removed: [objectKey(object)] });
  }

  waitsFor(): readonly string[] {
    return [];
  }

  async close(): Promise<void> {}
}

/** A pod of the busy (0) or the calm (1) namespace; its address tells the round. */
function pod(namespace: 0 | 1, name: string, round: number): MeshObject {
  return podObject(name, namespace, round, SIZE);
}

async function start(context: TestContext): Promise<{ source: MemorySource; server: XdsServer; stream: RawXdsStream }> {
  const server = await XdsServer.start(context);
  const [source, store] = [new MemorySource(), new ObjectStore()];
  const builder = new MeshBuilder(store, SETTINGS);
  const observer = { changed: () => undefined, published: () => undefined };
  const { discovery, metrics } = server;
  const pipeline = new MeshPipeline({ source, store, builder, discovery, metrics, revision: '' }, observer);
  await pipeline.start();
  context.after(() => pipeline.stop());
  const stream = new RawXdsStream(openRawSession(context, server.port, server.root.pem), agentToken('node-1'));
  stream.send({ type: ADDRESS_TYPE });
  await stream.nextAcknowledged();
  return { source, server, stream };
}

test('a burst of changes of one object is told once or twice, and the last of it is what stays', async (context) => {
  const { source, server, stream } = await start(context);
  for (let round = 1; round <= 2000; round++) source.put(pod(0, 'one', round));
  source.put(pod(1, 'last', 1));
  const versions = new Set<string>();
  for (let seen = false; !seen; ) {
    for (const { name, version } of (await stream.nextAcknowledged()).resources) {
      if (name.includes('last')) seen = true;
      else versions.add(version);
    }
  }
  assert.ok(versions.size <= 2, `${versions.size} versions were sent`);
  const served = server.discovery.store(ADDRESS_TYPE);
  const [name = ''] = [...served.names()].filter((candidate) => candidate.includes('one'));
  assert.equal([...versions].at(-1), served.find(name)?.version);
});

test('no change waits long while others keep coming', async (context) => {
  const { source, stream } = await start(context);
  let round = 0;
  const timer = setInterval(() => source.put(pod(0, 'one', ++round)), 5);
  context.after(() => clearInterval(timer));
  const times: number[] = [];
  for (let count = 0; count < 6; count++) {
    await stream.nextAcknowledged();
    times.push(performance.now());
  }
  const gaps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
  // Debounced by 20 ms for as long as changes come, by 200 ms at most.
  assert.ok(Math.max(...gaps) < 700 * slowness(), gaps.map((gap) => gap.toFixed(0)).join(' '));
});

test('churn of one namespace does not delay another', async (context) => {
  const { source, stream } = await start(context);
  let [round, busy] = [0, true];
  // As much as the process can take: two hundred pods change in every turn of the event loop.
  const churn = (async () => {
    while (busy) {
      round++;
      source.put(...Array.from({ length: 200 }, (_, index) => pod(0, `busy-${index}`, round * 200 + index)));
      await delay(1);
    }
  })();
  const arrivals = new Map<number, number>();
  const following = (async () => {
    while (arrivals.size < 5) {
      const { resources } = await stream.nextAcknowledged();
      for (const { name } of resources) {
        const change = /calm-(\d+)$/.exec(name)?.[1];
        if (change !== undefined) arrivals.set(Number(change), performance.now());
      }
    }
  })();
  const departures = new Map<number, number>();
  for (let change = 0; change < 5; change++) {
    departures.set(change, performance.now());
    source.put(pod(1, `calm-${change}`, 100 + change));
    await delay(300);
  }
  await following;
  busy = false;
  await churn;
  const waits = [...departures].map(([change, time]) => (arrivals.get(change) ?? Number.POSITIVE_INFINITY) - time);
  assert.ok(Math.max(...waits) < 1500 * slowness(), waits.map((wait) => wait.toFixed(0)).join(' '));
  assert.ok(round > 20);
});

test('a policy that is removed while others churn is withdrawn all the same', async (context) => {
  const { source, stream } = await start(context);
  const policy = objectOf(
    'AuthorizationPolicy',
    `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: ns-1}
spec: {action: ALLOW, rules: [{from: [{source: {namespaces: [ns-0]}}]}]}
`,
  );
  source.put(policy);
  stream.send({ type: AUTHORIZATION_TYPE });
  for (let there = false; !there; ) {
    there = (await stream.nextAcknowledged()).resources.some(({ name }) => name === 'ns-1/p');
  }
  let [round, withdrawn] = [0, false];
  const churn = (async () => {
    while (!withdrawn && round < 2000) {
      round++;
      source.put(...Array.from({ length: 200 }, (_, index) => pod(0, `busy-${index}`, round * 200 + index)));
      await delay(1);
    }
  })();
  await delay(100);
  const startedMs = performance.now();
  source.remove(policy);
  while (!withdrawn) withdrawn = (await stream.nextAcknowledged(20_000)).removed.includes('ns-1/p');
  const tookMs = performance.now() - startedMs;
  await churn;
  assert.ok(tookMs < 2000 * slowness(), `withdrawn after ${tookMs.toFixed(0)} ms`);
});
