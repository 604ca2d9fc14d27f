/** Delta xDS over real gRPC and TLS: resume, propagation from a file write, order, refusals, slow and hostile clients. */
import assert from 'node:assert/strict';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { Metadata, status } from '@grpc/grpc-js';
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryResponse,
} from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { AddressSchema } from '../../api/gen/istio/workload/workload_pb.js';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../control/discovery/resource.ts';
import { openBidiStream, openTlsClient } from '../../core/grpc.ts';
import { AGENT, bearer, ControlFixture, TestStream } from '../support/control.ts';
import { eventually } from '../support/eventually.ts';

const pod = (name: string, ip: string, node = 'node-a'): string => `apiVersion: v1
kind: Pod
metadata:
  name: ${name}
  namespace: shop
  labels: {app: web}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: ${node}, serviceAccountName: web}
status: {podIP: ${ip}}
`;
const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`;
const policy = (action: string, selector = ''): string => `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {action: ${action}${selector}, rules: [{from: [{source: {namespaces: [evil]}}]}]}
`;
const UID = 'Kubernetes//Pod/shop/web-1';

function names(response: DeltaDiscoveryResponse): string[] {
  return response.resources.map((resource) => resource.name).sort();
}

test('a wildcard client gets everything, then each change within a second of the file being written', async (context) => {
  const fixture = await ControlFixture.start(context, { 'a.yaml': pod('web-1', '10.0.0.1'), 'b.yaml': SERVICE });
  const stream = await fixture.openStream();
  stream.send({ typeUrl: ADDRESS_TYPE });
  stream.send({ typeUrl: AUTHORIZATION_TYPE });
  const first = [await stream.nextAcknowledged(), await stream.nextAcknowledged()];
  const addresses = first.find((response) => response.typeUrl === ADDRESS_TYPE);
  const policies = first.find((response) => response.typeUrl === AUTHORIZATION_TYPE);
  assert.deepEqual(addresses && names(addresses), [UID, 'shop/web.shop.svc.cluster.local']);
  assert.deepEqual(policies && names(policies), [], 'an empty first response is sent');

  const timed = async (write: () => void): Promise<DeltaDiscoveryResponse> => {
    const started = performance.now();
    write();
    const response = await stream.nextAcknowledged();
    const tookMs = performance.now() - started;
    assert.ok(tookMs < 1000, `propagated in ${tookMs.toFixed(0)} ms`);
    return response;
  };
  assert.deepEqual(names(await timed(() => fixture.write('c.yaml', policy('DENY')))), ['shop/p']);
  assert.deepEqual(names(await timed(() => fixture.write('d.yaml', pod('web-2', '10.0.0.2')))), [
    'Kubernetes//Pod/shop/web-2',
  ]);
  const replaced = await timed(() => {
    writeFileSync(join(fixture.configDir, 'a.yaml.new'), pod('web-1', '10.0.0.9'));
    renameSync(join(fixture.configDir, 'a.yaml.new'), join(fixture.configDir, 'a.yaml'));
  });
  assert.deepEqual(names(replaced), [UID]);
  const removed = await timed(() => rmSync(join(fixture.configDir, 'd.yaml')));
  assert.deepEqual([names(removed), removed.removedResources], [[], ['Kubernetes//Pod/shop/web-2']]);
});

test('a reconnecting client gets only what changed while it was away', async (context) => {
  const fixture = await ControlFixture.start(context, {
    'a.yaml': pod('web-1', '10.0.0.1'),
    'b.yaml': pod('web-2', '10.0.0.2'),
    'c.yaml': pod('web-3', '10.0.0.3'),
  });
  const before = await fixture.openStream();
  before.send({ typeUrl: ADDRESS_TYPE });
  const held = Object.fromEntries(
    (await before.nextAcknowledged()).resources.map(({ name, version }) => [name, version]),
  );
  assert.equal(Object.keys(held).length, 3);
  const watcher = await fixture.openStream();
  watcher.send({ typeUrl: ADDRESS_TYPE, initialResourceVersions: held });
  assert.deepEqual(names(await watcher.nextAcknowledged()), []);
  before.end();
  assert.equal((await before.ended).code, status.OK);

  fixture.write('b.yaml', pod('web-2', '10.0.0.22'));
  await watcher.nextAcknowledged();
  rmSync(join(fixture.configDir, 'c.yaml'));
  await watcher.nextAcknowledged();

  const after = await fixture.openStream();
  after.send({ typeUrl: ADDRESS_TYPE, initialResourceVersions: held });
  const response = await after.nextAcknowledged();
  assert.deepEqual(names(response), ['Kubernetes//Pod/shop/web-2']);
  assert.deepEqual(response.removedResources, ['Kubernetes//Pod/shop/web-3']);
});

test('versions are those of the content: a restarted control plane resends nothing', async (context) => {
  const files = { 'a.yaml': pod('web-1', '10.0.0.1'), 'b.yaml': SERVICE };
  const first = await ControlFixture.start(context, files);
  const stream = await first.openStream();
  stream.send({ typeUrl: ADDRESS_TYPE });
  const held = Object.fromEntries(
    (await stream.nextAcknowledged()).resources.map(({ name, version }) => [name, version]),
  );
  const second = await ControlFixture.start(context, files);
  const resumed = await second.openStream();
  resumed.send({ typeUrl: ADDRESS_TYPE, initialResourceVersions: held });
  assert.deepEqual(names(await resumed.nextAcknowledged()), []);
});

test('a policy is announced before the workload that names it, and withdrawn after the workload let go', async (context) => {
  const fixture = await ControlFixture.start(context, { 'a.yaml': pod('web-1', '10.0.0.1') });
  const stream = await fixture.openStream();
  for (const typeUrl of [ADDRESS_TYPE, AUTHORIZATION_TYPE]) stream.send({ typeUrl });
  await stream.nextAcknowledged();
  await stream.nextAcknowledged();
  fixture.write('p.yaml', policy('DENY', ', selector: {matchLabels: {app: web}}'));
  const [one, two] = [await stream.nextAcknowledged(), await stream.nextAcknowledged()];
  assert.deepEqual([one.typeUrl, two.typeUrl], [AUTHORIZATION_TYPE, ADDRESS_TYPE]);
  const { type } = fromBinary(AddressSchema, two.resources[0]?.resource?.value ?? new Uint8Array());
  assert.deepEqual(type.case === 'workload' && type.value.authorizationPolicies, ['shop/p']);
  rmSync(join(fixture.configDir, 'p.yaml'));
  const [three, four] = [await stream.nextAcknowledged(), await stream.nextAcknowledged()];
  assert.deepEqual([three.typeUrl, four.typeUrl], [ADDRESS_TYPE, AUTHORIZATION_TYPE]);
  assert.deepEqual(four.removedResources, ['shop/p']);
});

test('a client that does not answer holds nobody up, and gets one combined response when it does', async (context) => {
  const fixture = await ControlFixture.start(context, { 'a.yaml': pod('web-1', '10.0.0.1') });
  const slow = await fixture.openStream({ ...AGENT, node: 'node-b' });
  const quick = await fixture.openStream();
  slow.send({ typeUrl: ADDRESS_TYPE });
  quick.send({ typeUrl: ADDRESS_TYPE });
  const unanswered = await slow.next();
  await quick.nextAcknowledged();
  for (let last = 2; last <= 6; last++) {
    fixture.write('a.yaml', pod('web-1', `10.0.0.${last}`));
    assert.deepEqual(names(await quick.nextAcknowledged()), [UID]);
  }
  assert.equal(slow.pending, 0);
  slow.send({ typeUrl: ADDRESS_TYPE, responseNonce: unanswered.nonce });
  const combined = await slow.nextAcknowledged();
  const { type } = fromBinary(AddressSchema, combined.resources[0]?.resource?.value ?? new Uint8Array());
  assert.deepEqual(type.case === 'workload' && [...(type.value.addresses[0] ?? [])], [10, 0, 0, 6]);
});

test('a refused response is logged and shown, the stream goes on', async (context) => {
  const fixture = await ControlFixture.start(context, { 'a.yaml': pod('web-1', '10.0.0.1') });
  const stream = await fixture.openStream();
  stream.send({ typeUrl: ADDRESS_TYPE });
  const { nonce } = await stream.next();
  stream.send({ typeUrl: ADDRESS_TYPE, responseNonce: nonce, errorDetail: { message: `${UID}: no` } });
  await eventually('the refusal is shown', async () =>
    assert.match((await fixture.status('/debug/clients')).text, /"reason":\s*"[^"]*: no"/),
  );
  assert.match((await fixture.status('/metrics')).text, /ambit_control_xds_answers\{[^}]*result="nack"[^}]*\} 1/);
  fixture.write('a.yaml', pod('web-1', '10.0.0.2'));
  assert.deepEqual(names(await stream.nextAcknowledged()), [UID]);
});

test('an invalid object is reported with file and line, and its last good version stays served', async (context) => {
  const fixture = await ControlFixture.start(context, { 'a.yaml': pod('web-1', '10.0.0.1'), 'p.yaml': policy('DENY') });
  const stream = await fixture.openStream();
  stream.send({ typeUrl: AUTHORIZATION_TYPE });
  const good = await stream.nextAcknowledged();
  fixture.write('p.yaml', policy('REFUSE'));
  await eventually('the mistake is shown', async () => {
    const [problem] = JSON.parse((await fixture.status('/debug/problems')).text);
    assert.deepEqual([problem?.where, problem?.line, problem?.object], ['p.yaml', 4, 'AuthorizationPolicy/shop/p']);
  });
  const again = await fixture.openStream();
  again.send({ typeUrl: AUTHORIZATION_TYPE });
  assert.deepEqual(
    (await again.nextAcknowledged()).resources.map(({ version }) => version),
    good.resources.map(({ version }) => version),
  );
  fixture.write('p.yaml', policy('ALLOW'));
  assert.deepEqual(names(await stream.nextAcknowledged()), ['shop/p']);
  assert.equal((await fixture.status('/debug/problems')).text.trim(), '[]');
});

test('a file written in pieces, or emptied and written again, never takes an object away', async (context) => {
  const fixture = await ControlFixture.start(context, { 'a.yaml': `${pod('web-1', '10.0.0.1')}---\n${SERVICE}` });
  const stream = await fixture.openStream();
  stream.send({ typeUrl: ADDRESS_TYPE });
  await stream.nextAcknowledged();
  const text = `${pod('web-1', '10.0.0.2')}---\n${SERVICE}`;
  fixture.write('a.yaml', '');
  for (let length = 0; length < text.length; length += 60) {
    fixture.write('a.yaml', text.slice(0, length));
    await new Promise((resolve) => setImmediate(resolve));
  }
  fixture.write('a.yaml', text);
  const response = await stream.nextAcknowledged();
  assert.deepEqual([names(response), response.removedResources], [[UID], []]);
});

test('strangers are refused before a byte of theirs is read', async (context) => {
  const fixture = await ControlFixture.start(context, {});
  const { deltaAggregatedResources } = AggregatedDiscoveryService.method;
  for (const metadata of [new Metadata(), bearer('a.b.c'), await fixture.metadata(undefined, -60_000)]) {
    const stream = new TestStream(openBidiStream(fixture.client(), deltaAggregatedResources, metadata));
    stream.send({ typeUrl: ADDRESS_TYPE });
    const { code, details } = await stream.ended;
    assert.deepEqual([code, details], [status.UNAUTHENTICATED, 'authentication failure']);
  }
});

test('a client that does not know the root does not talk to us, nor we to TLS 1.2', async (context) => {
  const fixture = await ControlFixture.start(context, {});
  const client = openTlsClient({ address: `127.0.0.1:${fixture.control.port}` });
  context.after(() => client.close());
  const { deltaAggregatedResources } = AggregatedDiscoveryService.method;
  const stream = new TestStream(openBidiStream(client, deltaAggregatedResources, await fixture.metadata()));
  assert.equal((await stream.ended).code, status.UNAVAILABLE);
  const { connect } = await import('node:tls');
  const old = connect({
    port: fixture.control.port,
    ca: fixture.rootsPem(),
    maxVersion: 'TLSv1.2',
    checkServerIdentity: () => undefined,
  });
  const error = await new Promise<NodeJS.ErrnoException>((resolve) => old.once('error', resolve));
  assert.match(error.message, /version/i);
});

test('one caller has a bounded number of streams, and the stream ends with its token', async (context) => {
  const fixture = await ControlFixture.start(context, { 'a.yaml': pod('web-1', '10.0.0.1') });
  const streams = await Promise.all(Array.from({ length: 8 }, () => fixture.openStream()));
  for (const stream of streams) {
    stream.send({ typeUrl: ADDRESS_TYPE });
    await stream.nextAcknowledged();
  }
  const ninth = await fixture.openStream();
  ninth.send({ typeUrl: ADDRESS_TYPE });
  assert.equal((await ninth.ended).code, status.RESOURCE_EXHAUSTED);
  const other = await fixture.openStream({ ...AGENT, node: 'node-b' });
  other.send({ typeUrl: ADDRESS_TYPE });
  await other.nextAcknowledged();

  const { deltaAggregatedResources } = AggregatedDiscoveryService.method;
  const metadata = await fixture.metadata({ ...AGENT, node: 'node-c' }, 1000);
  const brief = new TestStream(openBidiStream(fixture.client(), deltaAggregatedResources, metadata));
  brief.send({ typeUrl: ADDRESS_TYPE });
  await brief.nextAcknowledged();
  assert.deepEqual(await brief.ended, { code: status.UNAUTHENTICATED, details: 'the token expired' });
});

test('a million subscriptions are refused, and an innocent client beside does not notice', async (context) => {
  const fixture = await ControlFixture.start(context, { 'a.yaml': pod('web-1', '10.0.0.1') });
  const innocent = await fixture.openStream({ ...AGENT, node: 'node-b' });
  innocent.send({ typeUrl: ADDRESS_TYPE });
  await innocent.nextAcknowledged();
  const greedy = await fixture.openStream();
  greedy.send({ typeUrl: ADDRESS_TYPE, resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] });
  for (let part = 0; part < 10; part++) {
    greedy.send({
      typeUrl: ADDRESS_TYPE,
      resourceNamesSubscribe: Array.from({ length: 100_000 }, (_, index) => `n/${part}.${index}`),
    });
  }
  assert.equal((await greedy.ended).code, status.RESOURCE_EXHAUSTED);
  fixture.write('a.yaml', pod('web-1', '10.0.0.2'));
  assert.deepEqual(names(await innocent.nextAcknowledged()), [UID]);
});

test('an unknown type is ignored, the known ones are served', async (context) => {
  const fixture = await ControlFixture.start(context, { 'a.yaml': pod('web-1', '10.0.0.1') });
  const stream = await fixture.openStream();
  stream.send({ typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster' });
  stream.send({ typeUrl: ADDRESS_TYPE });
  assert.deepEqual(names(await stream.nextAcknowledged()), [UID]);
});
