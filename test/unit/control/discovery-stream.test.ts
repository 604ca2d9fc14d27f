/** One discovery stream without a network: time limits, floods, and that an ended stream leaves nothing behind. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
} from '../../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, type ResourceType } from '../../../control/discovery/resource.ts';
import { ControlMetrics } from '../../../control/metrics.ts';
import {
  DISCOVERY_LIMITS,
  type DiscoveryCall,
  type DiscoveryLimits,
  DiscoveryService,
} from '../../../control/xds/discovery-service.ts';

/** The server's side of a call, as far as the service uses it. */
class FakeCall extends EventEmitter implements DiscoveryCall {
  readonly written: DeltaDiscoveryResponse[] = [];
  #failure: status | undefined;
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

  write(response: DeltaDiscoveryResponse): boolean {
    this.written.push(response);
    return true;
  }

  end(): void {
    this.ended = true;
  }

  resume(): void {}

  getPeer(): string {
    return '192.0.2.1:1';
  }

  ask(request: MessageInitShape<typeof DeltaDiscoveryRequestSchema>): void {
    this.emit('data', create(DeltaDiscoveryRequestSchema, request));
  }

  acknowledge(): void {
    const last = this.written.at(-1);
    this.ask({ typeUrl: last?.typeUrl ?? '', responseNonce: last?.nonce ?? '' });
  }
}

function open(limits: Partial<DiscoveryLimits> = {}) {
  const service = new DiscoveryService(new ControlMetrics(), { ...DISCOVERY_LIMITS, ...limits });
  const connect = (node: string, lifetimeMs = 60_000): FakeCall => {
    const call = new FakeCall();
    service.serve(call, {
      namespace: 'a',
      serviceAccount: 'b',
      node,
      how: 'token',
      expiresMs: Date.now() + lifetimeMs,
    });
    return call;
  };
  return { service, connect };
}

function publish(
  service: DiscoveryService,
  name: string,
  version: string | undefined,
  type: ResourceType = ADDRESS_TYPE,
): void {
  const resource =
    version === undefined
      ? undefined
      : { name, version, bytes: Buffer.from(version), aliases: [], services: [], node: '', privateTo: '' };
  service.publish([{ type, name, resource }]);
}

test('a client that does not answer in time is disconnected', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const { service, connect } = open({ answerTimeoutMs: 1000 });
  const call = connect('n1');
  call.ask({ typeUrl: ADDRESS_TYPE });
  context.mock.timers.tick(999);
  assert.equal(call.failure(), undefined);
  context.mock.timers.tick(1);
  assert.equal(call.failure(), status.DEADLINE_EXCEEDED);
  assert.deepEqual(service.clients(), []);
});

test('a client that answers stays, however long nothing happens', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const { service, connect } = open({ answerTimeoutMs: 1000 });
  const call = connect('n1', 10_000_000);
  call.ask({ typeUrl: ADDRESS_TYPE });
  call.acknowledge();
  context.mock.timers.tick(5_000_000);
  assert.equal(call.failure(), undefined);
  publish(service, 'a', '1');
  assert.equal(call.written.length, 2);
});

test('a stream ends with its token', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const call = open().connect('n1', 5000);
  context.mock.timers.tick(5000);
  assert.equal(call.failure(), status.UNAUTHENTICATED);
});

test('a flood of requests ends the stream, a neighbour does not notice', () => {
  const { service, connect } = open({ requestBurst: 50, requestsPerSecond: 1 });
  const [greedy, innocent] = [connect('n1'), connect('n2')];
  innocent.ask({ typeUrl: ADDRESS_TYPE });
  innocent.acknowledge();
  for (let count = 0; count < 60; count++) greedy.ask({ typeUrl: ADDRESS_TYPE, resourceNamesSubscribe: ['*'] });
  assert.equal(greedy.failure(), status.RESOURCE_EXHAUSTED);
  publish(service, 'a', '1');
  assert.equal(innocent.written.at(-1)?.resources[0]?.name, 'a');
});

test('streams are bounded per caller and in all, and ending gives the place back', () => {
  const { service, connect } = open({ maxStreams: 3, maxStreamsPerCaller: 2 });
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

test('a removed policy is withdrawn only after the workloads that named it were sent', () => {
  const { service, connect } = open();
  publish(service, 'ns/p', '1', AUTHORIZATION_TYPE);
  publish(service, 'w', 'names p');
  const call = connect('n1');
  for (const typeUrl of [ADDRESS_TYPE, AUTHORIZATION_TYPE]) call.ask({ typeUrl });
  const [addresses, policies] = call.written;
  // The answer about the workloads is still out when the policy goes.
  call.ask({ typeUrl: AUTHORIZATION_TYPE, responseNonce: policies?.nonce ?? '' });
  service.publish([
    { type: AUTHORIZATION_TYPE, name: 'ns/p', resource: undefined },
    {
      type: ADDRESS_TYPE,
      name: 'w',
      resource: {
        name: 'w',
        version: 'names nothing',
        bytes: Buffer.of(),
        aliases: [],
        services: [],
        node: '',
        privateTo: '',
      },
    },
  ]);
  assert.equal(call.written.length, 2, 'the removal waits for the workloads');
  call.ask({ typeUrl: ADDRESS_TYPE, responseNonce: addresses?.nonce ?? '' });
  assert.deepEqual(
    call.written.slice(2).map((response) => [response.typeUrl, response.removedResources]),
    [
      [ADDRESS_TYPE, []],
      [AUTHORIZATION_TYPE, ['ns/p']],
    ],
  );
});

test('a workload waits for the policy it names while the client owes an answer about policies', () => {
  const { service, connect } = open();
  publish(service, 'ns/old', '1', AUTHORIZATION_TYPE);
  const call = connect('n1');
  call.ask({ typeUrl: AUTHORIZATION_TYPE });
  call.ask({ typeUrl: ADDRESS_TYPE });
  const [policies, addresses] = call.written;
  call.ask({ typeUrl: ADDRESS_TYPE, responseNonce: addresses?.nonce ?? '' });
  publish(service, 'ns/new', '1', AUTHORIZATION_TYPE);
  publish(service, 'w', 'names new');
  assert.equal(call.written.length, 2, 'the answer about ns/old is still out');
  call.ask({ typeUrl: AUTHORIZATION_TYPE, responseNonce: policies?.nonce ?? '' });
  assert.deepEqual(
    call.written.slice(2).map((response) => response.resources.map(({ name }) => name)),
    [['ns/new'], ['w']],
  );
});

test('closing ends every stream and refuses new ones', () => {
  const { service, connect } = open();
  const call = connect('n1');
  service.close();
  assert.equal(call.failure(), status.UNAVAILABLE);
  assert.equal(connect('n1').failure(), status.UNAVAILABLE);
});
