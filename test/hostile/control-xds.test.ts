/**
 * Authenticated clients that misbehave, at the level of gRPC frames: each is bounded, refused with a reason and counted,
 * and a neighbour that keeps the rules is served as if they were not there.
 */
import assert from 'node:assert/strict';
import type { ClientHttp2Session } from 'node:http2';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../control/discovery/resource.ts';
import { DISCOVERY_LIMITS } from '../../control/xds/discovery-limits.ts';
import { eventually } from '../support/eventually.ts';
import { DELTA_PATH, encodeRequest, openRawSession, RawCall, RawXdsStream } from '../support/raw-xds-client.ts';
import { slowness } from '../support/slowness.ts';
import {
  agentToken,
  manyWorkloads,
  residentBytes,
  workload,
  XdsServer,
  type XdsServerOptions,
} from '../support/xds-server.ts';

/** How long a neighbour may wait for a change while others misbehave; client, server and attacker share one thread. */
const PATIENCE_MS = 500;
/** One turn of sending; garbage collection included. */
const LONGEST_TURN_MS = 250;

const REFUSALS = 'ambit_control_xds_refusals';
const ON_DEMAND = { subscribe: ['*'], unsubscribe: ['*'] };

/** A client that keeps the rules, and measures how long changes take to reach it. */
class Neighbour {
  readonly #server: XdsServer;
  readonly #stream: RawXdsStream;
  #round = 0;

  constructor(server: XdsServer, stream: RawXdsStream) {
    this.#server = server;
    this.#stream = stream;
  }

  static async join(context: TestContext, server: XdsServer): Promise<Neighbour> {
    const stream = new RawXdsStream(session(context, server), agentToken('innocent'));
    stream.send({ type: ADDRESS_TYPE, ...ON_DEMAND });
    await stream.nextAcknowledged();
    stream.send({ type: ADDRESS_TYPE, subscribe: ['innocent'] });
    await stream.nextAcknowledged();
    return new Neighbour(server, stream);
  }

  /** Milliseconds from a change to its arrival. */
  async latency(): Promise<number> {
    this.#round++;
    const startedMs = performance.now();
    this.#server.addresses([workload('innocent', { canonicalRevision: String(this.#round) })]);
    const response = await this.#stream.nextAcknowledged(60_000);
    assert.deepEqual(
      response.resources.map(({ name }) => name),
      ['innocent'],
    );
    return performance.now() - startedMs;
  }

  async isServedWell(): Promise<void> {
    for (let round = 0; round < 5; round++) {
      const before = slowness();
      const ms = await this.latency();
      const allowedMs = PATIENCE_MS * Math.max(before, slowness());
      assert.ok(ms < allowedMs, `${ms.toFixed(0)} ms, more than ${allowedMs.toFixed(0)}`);
    }
  }
}

function session(context: TestContext, server: XdsServer): ClientHttp2Session {
  return openRawSession(context, server.port, server.root.pem);
}

async function start(context: TestContext, options: XdsServerOptions = {}): Promise<[XdsServer, Neighbour]> {
  const server = await XdsServer.start(context, options);
  return [server, await Neighbour.join(context, server)];
}

function turnsWereShort(server: XdsServer, slow: number): void {
  const { longestTurnMs } = server.discovery.load();
  assert.ok(longestTurnMs < LONGEST_TURN_MS * slow, `a turn took ${longestTurnMs.toFixed(0)} ms (slowness ${slow})`);
}

async function refused(server: XdsServer, reason: string, times = 1): Promise<void> {
  await eventually(
    `refused: ${reason}`,
    async () => assert.ok((await server.metric(REFUSALS, reason)) >= times),
    20_000,
  );
}

test('full answers of fifty thousand resources for several clients block nobody', async (context) => {
  const [server, neighbour] = await start(context);
  const before = slowness();
  server.addresses(manyWorkloads(50_000));
  const streams = Array.from({ length: 4 }, (_, index) => {
    const stream = new RawXdsStream(session(context, server), agentToken(`node-${index}`));
    stream.send({ type: ADDRESS_TYPE });
    return stream;
  });
  let received = 0;
  const all = streams.map(async (stream) => {
    for (let more = true; more; ) {
      const response = await stream.nextAcknowledged(60_000);
      received += response.resources.length;
      more = response.controlPlane.includes('More');
    }
  });
  const latencies: number[] = [];
  const done = Promise.all(all).then(() => true);
  while (!(await Promise.race([done, neighbour.latency().then((ms) => void latencies.push(ms))]))) await turn();
  assert.ok(received >= 4 * 50_000, `${received}`);
  const worst = Math.max(...latencies);
  const slow = Math.max(before, slowness());
  assert.ok(worst < 2 * PATIENCE_MS * slow, `the neighbour waited ${worst.toFixed(0)} ms (slowness ${slow})`);
  turnsWereShort(server, slow);
});

test('a client that never reads holds one response, and is disconnected', async (context) => {
  const limits = { answerTimeoutMs: 5000 };
  const [server, neighbour] = await start(context, { limits });
  server.addresses(manyWorkloads(30_000));
  const deaf = new RawCall(session(context, server), DELTA_PATH, agentToken('deaf'));
  deaf.send(encodeRequest({ type: ADDRESS_TYPE }));
  deaf.send(encodeRequest({ type: AUTHORIZATION_TYPE }));
  await eventually('it is sent something', () => {
    const state = server.discovery.clients().find(({ node }) => node === 'deaf');
    assert.ok((state?.bytesSent ?? 0) > 0);
  });
  for (let round = 0; round < 20; round++) server.addresses(manyWorkloads(500, round + 2));
  await neighbour.isServedWell();
  const state = server.discovery.clients().find(({ node }) => node === 'deaf');
  assert.ok((state?.bytesSent ?? 0) < DISCOVERY_LIMITS.reader.responseBytes + 1024, `${state?.bytesSent} bytes`);
  assert.ok((state?.types[0]?.behind ?? 0) > 1000);
  await refused(server, 'not answered');
  await eventually('its connection is closed', () => assert.ok(deaf.stream.destroyed));
});

test('a client that acknowledges nothing is disconnected, and comes back where it was', async (context) => {
  const [server] = await start(context, { limits: { answerTimeoutMs: 500 } });
  server.addresses([workload('a')]);
  const mute = new RawXdsStream(session(context, server), agentToken('mute'));
  mute.send({ type: ADDRESS_TYPE });
  const { resources } = await mute.next();
  assert.deepEqual(await mute.ended(), { status: '4', text: 'a response was not answered in time' });
  const again = new RawXdsStream(session(context, server), agentToken('mute'));
  const held = Object.fromEntries(resources.map(({ name, version }) => [name, version]));
  again.send({ type: ADDRESS_TYPE, held });
  assert.deepEqual((await again.nextAcknowledged()).resources, []);
});

test('a million subscriptions are refused with a reason', async (context) => {
  const [server, neighbour] = await start(context);
  const greedy = new RawXdsStream(session(context, server), agentToken('greedy'));
  greedy.send({ type: ADDRESS_TYPE, ...ON_DEMAND });
  for (let part = 0; part < 20; part++) {
    const subscribe = Array.from({ length: 50_000 }, (_, index) => `n/${part}.${index}`);
    greedy.send({ type: ADDRESS_TYPE, subscribe });
  }
  const serving = neighbour.isServedWell();
  const { status, text } = await greedy.ended();
  assert.equal(status, '8');
  assert.match(text, /asked for more than 50000 resources/);
  await refused(server, 'asks for too much');
  await serving;
});

test('requests that are too large, too long or no requests are refused', async (context) => {
  const [server, neighbour] = await start(context);
  const long = new RawXdsStream(session(context, server), agentToken('a'));
  long.send({ type: ADDRESS_TYPE, subscribe: ['x'.repeat(2000)] });
  assert.match((await long.ended()).text, /longer than 1024 bytes/);
  const huge = new RawXdsStream(session(context, server), agentToken('b'));
  huge.call.send(Buffer.alloc(17 * 1024 * 1024));
  assert.equal((await huge.ended()).status, '8');
  const garbage = new RawXdsStream(session(context, server), agentToken('c'));
  garbage.call.send(Buffer.alloc(1000, 255));
  assert.equal((await garbage.ended()).status, '3');
  const many = new RawXdsStream(session(context, server), agentToken('d'));
  const held = Buffer.concat(Array.from({ length: 2_000_000 }, () => Buffer.from([0x2a, 0])));
  many.call.send(Buffer.concat([encodeRequest({ type: ADDRESS_TYPE }), held]));
  assert.match((await many.ended()).text, /holds? more than 500000 resources/);
  await refused(server, 'asks for too much', 2);
  await refused(server, 'request not understood');
  await neighbour.isServedWell();
});

test('a reconnecting client with a list of a hundred thousand is compared without blocking anybody', async (context) => {
  const [server, neighbour] = await start(context);
  const before = slowness();
  const pods = manyWorkloads(100_000);
  server.addresses(pods);
  const held = Object.fromEntries(pods.map(({ name, version }) => [name, version]));
  const request = encodeRequest({ type: ADDRESS_TYPE, held: { ...held, innocent: 'old' } });
  const stream = new RawXdsStream(session(context, server), agentToken('returning'));
  stream.call.send(request);
  const serving = neighbour.isServedWell();
  const response = await stream.nextAcknowledged(60_000);
  assert.ok(response.resources.length <= 1 && response.removed.length <= 1);
  await serving;
  turnsWereShort(server, Math.max(before, slowness()));
});

test('a flood of acknowledgements and refusals ends the stream', async (context) => {
  const [server, neighbour] = await start(context);
  server.addresses([workload('a')]);
  for (const [node, refusal] of [
    ['acks', undefined],
    ['nacks', 'a: no'],
  ] as const) {
    const stream = new RawXdsStream(session(context, server), agentToken(node));
    stream.send({ type: ADDRESS_TYPE });
    const { nonce } = await stream.next();
    const answer = { type: ADDRESS_TYPE, nonce, ...(refusal === undefined ? {} : { refusal }) };
    for (let count = 0; count < 3000; count++) stream.send(answer);
    assert.deepEqual(await stream.ended(), { status: '8', text: 'too many requests' });
  }
  await refused(server, 'too many requests', 2);
  await neighbour.isServedWell();
});

test('a client that refuses everything is not sent the same again and again', async (context) => {
  const [server, neighbour] = await start(context);
  server.addresses([workload('a')]);
  const stream = new RawXdsStream(session(context, server), agentToken('sulking'));
  stream.send({ type: ADDRESS_TYPE });
  const { nonce } = await stream.next();
  stream.send({ type: ADDRESS_TYPE, nonce, refusal: 'a: no' });
  await neighbour.latency();
  const second = await stream.next();
  assert.deepEqual(
    second.resources.map(({ name }) => name),
    ['innocent'],
  );
  const state = server.discovery.clients().find(({ node }) => node === 'sulking');
  assert.equal(state?.types[0]?.lastNack?.reason, 'a: no');
});

test('streams opened in a loop are refused, on one connection and on many', async (context) => {
  const [server, neighbour] = await start(context);
  const one = session(context, server);
  const statuses = new Set<string>();
  for (let round = 0; round < 200; round++) {
    const stream = new RawXdsStream(one, agentToken('looping'));
    stream.send({ type: ADDRESS_TYPE });
    if (round % 2 === 0) stream.call.end();
    else stream.call.stream.close(8);
    statuses.add((await stream.ended()).status);
  }
  assert.ok(statuses.has('8'), [...statuses].join(' '));
  await refused(server, 'streams opened too often');
  await neighbour.isServedWell();
  await eventually('nothing of them is left', () => assert.equal(server.discovery.clients().length, 1));
});

test('streams that say nothing do not keep others from being read', async (context) => {
  const limits = { maxOpening: 4, openingMs: 500 };
  const [server, neighbour] = await start(context, { limits });
  for (let index = 0; index < 8; index++) new RawXdsStream(session(context, server), agentToken(`silent-${index}`));
  await eventually('they are there', () => assert.equal(server.discovery.clients().length, 9));
  const stream = new RawXdsStream(session(context, server), agentToken('late'));
  stream.send({ type: ADDRESS_TYPE });
  await stream.nextAcknowledged(60_000);
  await neighbour.isServedWell();
});

test('many clients that do not read hold a bounded amount of memory', async (context) => {
  const [server, neighbour] = await start(context, { limits: { maxUntakenBytes: 16 * 1024 * 1024, untakenMs: 500 } });
  server.addresses(manyWorkloads(20_000));
  const before = residentBytes();
  for (let index = 0; index < 60; index++) {
    const deaf = new RawCall(session(context, server), DELTA_PATH, agentToken(`deaf-${index}`));
    deaf.send(encodeRequest({ type: ADDRESS_TYPE }));
  }
  await refused(server, 'not read');
  const grown = residentBytes() - before;
  assert.ok(grown < 150 * 1024 * 1024, `${Math.round(grown / 1e6)} MB for 60 clients`);
  await neighbour.isServedWell();
});
