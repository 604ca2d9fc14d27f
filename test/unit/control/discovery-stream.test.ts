/** Discovery streams without a network: turns, time limits, floods, order, and that an ended stream leaves nothing behind. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, type ResourceType } from '../../../control/discovery/resource.ts';
import { ControlMetrics } from '../../../control/metrics.ts';
import { DISCOVERY_LIMITS, type DiscoveryLimits } from '../../../control/xds/discovery-limits.ts';
import { DiscoveryService } from '../../../control/xds/discovery-service.ts';
import type { DiscoveryCall } from '../../../control/xds/discovery-stream.ts';

/** The server's side of a call, as far as the service uses it. */
class FakeCall extends EventEmitter implements DiscoveryCall {
  readonly written: DeltaDiscoveryResponse[] = [];
  /** False: what is written is not taken. */
  reads = true;
  #failure: status | undefined;
  #taken: (() => void) | undefined;
  ended = false;

  constructor() {
    super();
    this.on('error', ({ code }: { code: status }) => {
      this.#failure ??= code;
    });
  }

  /** The status the stream was failed with. */
  failure(): status | undefined {
    return this.#failure;
  }

  write(response: Buffer, taken: () => void): boolean {
    this.written.push(fromBinary(DeltaDiscoveryResponseSchema, response));
    if (this.reads) taken();
    else this.#taken = taken;
    return true;
  }

  /** Takes what was written. */
  read(): void {
    this.#taken?.();
    this.#taken = undefined;
  }

  end(): void {
    this.ended = true;
  }

  resume(): void {}

  getPeer(): string {
    return '192.0.2.1:1';
  }

  ask(request: MessageInitShape<typeof DeltaDiscoveryRequestSchema>): void {
    const message = create(DeltaDiscoveryRequestSchema, request);
    this.emit('data', Buffer.from(toBinary(DeltaDiscoveryRequestSchema, message)));
  }

  acknowledge(): void {
    const last = this.written.at(-1);
    this.ask({ typeUrl: last?.typeUrl ?? '', responseNonce: last?.nonce ?? '' });
  }
}

function open(limits: Partial<DiscoveryLimits> = {}, disconnect?: (peer: string) => void) {
  const options = disconnect === undefined ? { limits } : { limits, disconnect };
  const service = new DiscoveryService(new ControlMetrics(), options);
  const connect = (node: string, lifetimeMs = 60_000): FakeCall => {
    const call = new FakeCall();
    const expiresMs = Date.now() + lifetimeMs;
    service.serve(call, { namespace: 'a', serviceAccount: 'b', node, how: 'token', expiresMs });
    return call;
  };
  return { service, connect };
}

/** Until no stream has anything to do. */
async function settled(service: DiscoveryService): Promise<void> {
  do await turn();
  while (service.load().waiting > 0);
}

function publish(
  service: DiscoveryService,
  name: string,
  version: string | undefined,
  type: ResourceType = ADDRESS_TYPE,
): void {
  service.publish([{ type, name, resource: version === undefined ? undefined : resource(name, version) }]);
}

function resource(name: string, version: string) {
  return { name, version, bytes: Buffer.from(version), aliases: [], services: [], node: '', privateTo: '' };
}

test('a client that does not answer in time is disconnected', async () => {
  const { service, connect } = open({ answerTimeoutMs: 1000 });
  const call = connect('n1');
  call.ask({ typeUrl: ADDRESS_TYPE });
  await settled(service);
  const sentMs = performance.now();
  service.sweep(sentMs + 900);
  assert.equal(call.failure(), undefined);
  service.sweep(sentMs + 1001);
  assert.equal(call.failure(), status.DEADLINE_EXCEEDED);
  assert.deepEqual(service.clients(), []);
});

test('a stream ends a while after the pod of its token has gone, and not because news of it come late', async () => {
  let gone = true;
  const service = new DiscoveryService(new ControlMetrics(), { limits: { goneMs: 1000 }, isGone: () => gone });
  const call = new FakeCall();
  const pod = { name: 'agent-1', uid: 'u1' };
  const expiresMs = Date.now() + 60_000;
  service.serve(call, { namespace: 'a', serviceAccount: 'b', node: 'n1', pod, how: 'token', expiresMs });
  const beganMs = Math.ceil(performance.now());
  service.sweep(beganMs);
  gone = false;
  service.sweep(beganMs + 1500);
  gone = true;
  service.sweep(beganMs + 2000);
  service.sweep(beganMs + 2999);
  assert.equal(call.failure(), undefined);
  service.sweep(beganMs + 3000);
  assert.equal(call.failure(), status.UNAUTHENTICATED);
  assert.deepEqual(service.clients(), []);
});

test('a client that answers stays, however long nothing happens', async () => {
  const { service, connect } = open({ answerTimeoutMs: 1000 });
  const call = connect('n1', 10_000_000);
  call.ask({ typeUrl: ADDRESS_TYPE });
  await settled(service);
  call.acknowledge();
  await settled(service);
  service.sweep(performance.now() + 5_000_000);
  assert.equal(call.failure(), undefined);
  publish(service, 'a', '1');
  await settled(service);
  assert.equal(call.written.length, 2);
  service.close();
});

test('a stream ends with its token', () => {
  const { service, connect } = open();
  const call = connect('n1', 5000);
  service.sweep(performance.now() + 4000);
  assert.equal(call.failure(), undefined);
  service.sweep(performance.now() + 5001);
  assert.equal(call.failure(), status.UNAUTHENTICATED);
});

test('a flood of requests ends the stream, a neighbour does not notice', async () => {
  const { service, connect } = open({ requestBurst: 50, requestsPerSecond: 1 });
  const [greedy, innocent] = [connect('n1'), connect('n2')];
  innocent.ask({ typeUrl: ADDRESS_TYPE });
  await settled(service);
  innocent.acknowledge();
  for (let count = 0; count < 60; count++) greedy.ask({ typeUrl: ADDRESS_TYPE, resourceNamesSubscribe: ['*'] });
  assert.equal(greedy.failure(), status.RESOURCE_EXHAUSTED);
  publish(service, 'a', '1');
  await settled(service);
  assert.equal(innocent.written.at(-1)?.resources[0]?.name, 'a');
  service.close();
});

test('streams are bounded per caller and in all, and ending gives the place back', () => {
  const { service, connect } = open({ maxStreams: 3, maxStreamsPerCaller: 2, openBurst: 1000 });
  const [first, second] = [connect('n1'), connect('n1')];
  assert.equal(connect('n1').failure(), status.RESOURCE_EXHAUSTED);
  const other = connect('n2');
  assert.equal(connect('n3').failure(), status.RESOURCE_EXHAUSTED);
  first.emit('cancelled');
  second.emit('close');
  other.emit('end');
  assert.ok(other.ended);
  assert.deepEqual(service.clients(), []);
  for (let round = 0; round < 100; round++) {
    const call = connect('n1');
    assert.equal(call.failure(), undefined);
    call.emit('cancelled');
  }
});

test('a removed policy is withdrawn only after the workloads that named it were sent', async () => {
  const { service, connect } = open();
  publish(service, 'ns/p', '1', AUTHORIZATION_TYPE);
  publish(service, 'w', 'names p');
  const call = connect('n1');
  for (const typeUrl of [ADDRESS_TYPE, AUTHORIZATION_TYPE]) {
    call.ask({ typeUrl });
    await settled(service);
  }
  const [addresses, policies] = call.written;
  // The answer about the workloads is still out when the policy goes.
  call.ask({ typeUrl: AUTHORIZATION_TYPE, responseNonce: policies?.nonce ?? '' });
  await settled(service);
  service.publish([
    { type: AUTHORIZATION_TYPE, name: 'ns/p', resource: undefined },
    {
      type: ADDRESS_TYPE,
      name: 'w',
      resource: resource('w', 'names nothing'),
    },
  ]);
  await settled(service);
  assert.equal(call.written.length, 2, 'the removal waits for the workloads');
  call.ask({ typeUrl: ADDRESS_TYPE, responseNonce: addresses?.nonce ?? '' });
  await settled(service);
  assert.deepEqual(
    call.written.slice(2).map((response) => [response.typeUrl, response.removedResources]),
    [
      [ADDRESS_TYPE, []],
      [AUTHORIZATION_TYPE, ['ns/p']],
    ],
  );
});

test('a workload waits for the policy it names while the client owes an answer about policies', async () => {
  const { service, connect } = open();
  publish(service, 'ns/old', '1', AUTHORIZATION_TYPE);
  const call = connect('n1');
  call.ask({ typeUrl: AUTHORIZATION_TYPE });
  call.ask({ typeUrl: ADDRESS_TYPE });
  await settled(service);
  const [policies, addresses] = call.written;
  call.ask({ typeUrl: ADDRESS_TYPE, responseNonce: addresses?.nonce ?? '' });
  publish(service, 'ns/new', '1', AUTHORIZATION_TYPE);
  publish(service, 'w', 'names new');
  await settled(service);
  assert.equal(call.written.length, 2, 'the answer about ns/old is still out');
  call.ask({ typeUrl: AUTHORIZATION_TYPE, responseNonce: policies?.nonce ?? '' });
  await settled(service);
  assert.deepEqual(
    call.written.slice(2).map((response) => response.resources.map(({ name }) => name)),
    [['ns/new'], ['w']],
  );
});

for (const node of ['n1', undefined]) {
  test(`a policy that becomes narrower comes after the workloads that name it, ${node === undefined ? 'for a restricted client' : 'for agents'}`, async () => {
    const { service } = open();
    const connect = (): FakeCall => {
      const call = new FakeCall();
      const caller = { namespace: 'a', serviceAccount: 'b', node, how: 'token' } as const;
      service.serve(call, { ...caller, expiresMs: Date.now() + 60_000 });
      for (const typeUrl of [AUTHORIZATION_TYPE, ADDRESS_TYPE]) call.ask({ typeUrl });
      return call;
    };
    publish(service, 'ns/p', 'for all', AUTHORIZATION_TYPE);
    publish(service, 'w', 'names nothing');
    const call = connect();
    await settled(service);
    for (const { typeUrl, nonce } of call.written) call.ask({ typeUrl, responseNonce: nonce });
    await settled(service);
    service.publish([
      { type: AUTHORIZATION_TYPE, name: 'ns/p', resource: { ...resource('ns/p', 'for some'), late: true } },
      { type: ADDRESS_TYPE, name: 'w', resource: resource('w', 'names p') },
    ]);
    await settled(service);
    const order = (of: FakeCall): string[] =>
      of.written.flatMap((response) => response.resources.map(({ name, version }) => `${name}: ${version}`));
    assert.deepEqual(order(call).slice(2), ['w: names p', 'ns/p: for some']);
    const newcomer = connect();
    await settled(service);
    assert.deepEqual(order(newcomer), ['ns/p: for some', 'w: names p']);
    service.close();
  });
}

test('closing ends every stream and refuses new ones', () => {
  const { service, connect } = open();
  const call = connect('n1');
  service.close();
  assert.equal(call.failure(), status.UNAVAILABLE);
  assert.equal(connect('n1').failure(), status.UNAVAILABLE);
});

test('while a change is published in parts, the removal of a policy waits for its last part', async () => {
  const { service, connect } = open();
  publish(service, 'ns/p', '1', AUTHORIZATION_TYPE);
  const call = connect('n1');
  call.ask({ typeUrl: AUTHORIZATION_TYPE });
  await settled(service);
  call.acknowledge();
  service.publish([{ type: AUTHORIZATION_TYPE, name: 'ns/p', resource: undefined }], false);
  await settled(service);
  assert.equal(call.written.length, 1);
  service.publish([], true);
  await settled(service);
  assert.deepEqual(call.written.at(-1)?.removedResources, ['ns/p']);
  service.close();
});

test('the removal of a policy does not wait for ever for workloads that change all the time', async () => {
  const { service, connect } = open({ holdRemovalsMs: 30 });
  publish(service, 'ns/p', '1', AUTHORIZATION_TYPE);
  const call = connect('n1');
  call.ask({ typeUrl: AUTHORIZATION_TYPE });
  call.ask({ typeUrl: ADDRESS_TYPE });
  await settled(service);
  // The answer about workloads stays out, and they change all the time.
  call.ask({ typeUrl: AUTHORIZATION_TYPE, responseNonce: call.written[0]?.nonce ?? '' });
  publish(service, 'ns/p', undefined, AUTHORIZATION_TYPE);
  const startedMs = performance.now();
  let round = 0;
  while (!call.written.at(-1)?.removedResources.includes('ns/p')) {
    publish(service, 'w', String(++round));
    await settled(service);
    assert.ok(performance.now() - startedMs < 5000);
  }
  assert.ok(performance.now() - startedMs >= 30 - 1);
  service.close();
});

test('of a client that does not read, one response is held, and its connection is closed with the stream', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const closed: string[] = [];
  const limits = { maxUntakenBytes: 100, untakenMs: 1000, reader: { ...DISCOVERY_LIMITS.reader, responseBytes: 10 } };
  const { service, connect } = open(limits, (peer) => closed.push(peer));
  for (let index = 0; index < 20; index++) publish(service, `w${index}`, '1');
  const [stuck, sound] = [connect('n1'), connect('n2')];
  stuck.reads = false;
  stuck.ask({ typeUrl: ADDRESS_TYPE });
  stuck.ask({ typeUrl: AUTHORIZATION_TYPE });
  sound.ask({ typeUrl: ADDRESS_TYPE });
  await settled(service);
  assert.equal(stuck.written.length, 1);
  service.sweep(performance.now() + 900);
  assert.equal(stuck.failure(), undefined);
  service.sweep(performance.now() + 1100);
  assert.equal(stuck.failure(), status.RESOURCE_EXHAUSTED);
  assert.equal(sound.failure(), undefined);
  context.mock.timers.tick(1000);
  assert.deepEqual(closed, ['192.0.2.1:1']);
  service.close();
});

test('draining spreads the ends over the time given, and refuses new streams at once', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { service, connect } = open();
  const calls = Array.from({ length: 10 }, (_, index) => connect(`n${index}`));
  const ended = (): number => calls.filter((call) => call.failure() === status.UNAVAILABLE).length;
  let drained = false;
  const done = service.drain(1000).then(() => {
    drained = true;
  });
  assert.equal(connect('late').failure(), status.UNAVAILABLE);
  context.mock.timers.tick(500);
  assert.ok(ended() >= 4 && ended() <= 6, `${ended()} after half of the time`);
  await turn();
  assert.ok(!drained);
  context.mock.timers.tick(500);
  await done;
  assert.equal(ended(), 10);
});

test('what a client has, lacks and refused is told', async () => {
  const { service, connect } = open();
  publish(service, 'a', '1');
  const call = connect('n1');
  call.ask({ typeUrl: ADDRESS_TYPE, node: { id: 'ztunnel~10.0.0.1~agent.ns~ns.svc.cluster.local' } });
  await settled(service);
  const [waiting] = service.clients();
  assert.equal(waiting?.nodeId, 'ztunnel~10.0.0.1~agent.ns~ns.svc.cluster.local');
  assert.deepEqual(
    waiting?.types.map(({ synced, ackedVersion, sentVersion }) => [synced, ackedVersion, sentVersion]),
    [[false, 0, 1]],
  );
  call.ask({ typeUrl: ADDRESS_TYPE, responseNonce: call.written[0]?.nonce ?? '', errorDetail: { message: 'a: no' } });
  publish(service, 'b', '1');
  await settled(service);
  publish(service, 'c', '1');
  const [behind] = service.clients();
  assert.deepEqual(
    behind?.types.map(({ behind, lastNack }) => [behind, lastNack?.reason]),
    [[1, 'a: no']],
  );
  call.acknowledge();
  await settled(service);
  call.acknowledge();
  await settled(service);
  const [synced] = service.clients();
  const [state] = synced?.types ?? [];
  assert.deepEqual([state?.synced, state?.behind, state?.behindMs, state?.ackedVersion], [true, 0, 0, 3]);
  service.close();
});

test('of many streams that open at once only some are read, and nobody is forgotten', async () => {
  const { service, connect } = open({ maxOpening: 2, openingMs: 1000 });
  const calls = Array.from({ length: 5 }, (_, index) => connect(`n${index}`));
  const reading = (): number => calls.filter((call) => call.listenerCount('data') > 0).length;
  assert.equal(reading(), 2);
  calls[0]?.ask({ typeUrl: ADDRESS_TYPE });
  await settled(service);
  assert.equal(reading(), 3);
  calls[1]?.emit('cancelled');
  assert.equal(reading(), 4);
  service.sweep(performance.now() + 1001);
  assert.equal(reading(), 5);
  service.close();
});
