/**
 * A stranger's client, written from the protocol facts alone (`test/support/raw-xds-client.ts`), under the whole control
 * plane: certificates, discovery, refusals.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import type { ClientHttp2Session } from 'node:http2';
import { type TestContext, test } from 'node:test';
import { makeRequest, opensslVerify } from '../support/certificate-request.ts';
import { ControlFixture } from '../support/control.ts';
import { field, messagesOf, numberField, parseFields, textsOf } from '../support/raw-protobuf.ts';
import { openRawSession, RawCall, RawXdsStream } from '../support/raw-xds-client.ts';

const POD = `apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, annotations: {ambient.istio.io/redirection: enabled}}
spec: {nodeName: node-a, serviceAccountName: web}
status: {podIP: 10.0.0.1}
`;

async function open(context: TestContext): Promise<{ session: ClientHttp2Session; token: string; rootsPem: string }> {
  const fixture = await ControlFixture.start(context, { 'a.yaml': POD });
  const rootsPem = fixture.rootsPem();
  const session = openRawSession(context, fixture.control.port, rootsPem);
  const [header = ''] = (await fixture.metadata()).get('authorization').map(String);
  return { session, rootsPem, token: header.replace('Bearer ', '') };
}

test('a stranger gets a certificate', async (context) => {
  const { session, token, rootsPem } = await open(context);
  const identity = 'spiffe://cluster.local/ns/shop/sa/web';
  // Struct{1 fields: map entry{1 key, 2 Value{3 string}}}
  const metadata = field(1, Buffer.concat([field(1, 'ImpersonatedIdentity'), field(2, field(3, identity))]));
  const call = new RawCall(session, '/istio.v1.auth.IstioCertificateService/CreateCertificate', token).read();
  call.send(Buffer.concat([field(1, makeRequest().csr), numberField(3, 3600), field(4, metadata)]));
  call.end();
  const chain = textsOf(parseFields(await call.next()), 1);
  assert.equal((await call.ended)['grpc-status'], '0');
  assert.equal(new X509Certificate(chain[0] ?? '').subjectAltName, `URI:${identity}`);
  assert.equal(chain.at(-1), rootsPem);
  assert.equal(opensslVerify(rootsPem, chain[0] ?? ''), 'leaf: OK');
});

test('a stranger gets workloads over delta xDS, and nothing twice', async (context) => {
  const { session, token } = await open(context);
  const type = 'type.googleapis.com/istio.workload.Address';
  const stream = new RawXdsStream(session, token);
  stream.send({ type, nodeId: 'ztunnel~1.1.1.1~a.b~b.svc.cluster.local' });
  const response = await stream.next();
  assert.equal(response.type, type);
  const [resource] = response.resources;
  assert.ok(resource);
  assert.deepEqual([resource.name, resource.type], ['Kubernetes//Pod/shop/web-1', type]);
  const [workload] = messagesOf(parseFields(resource.content), 1);
  assert.ok(workload);
  assert.deepEqual(
    [textsOf(workload, 1), textsOf(workload, 2), textsOf(workload, 7), textsOf(workload, 9)],
    [['web-1'], ['shop'], ['web'], ['node-a']],
  );
  assert.deepEqual(
    workload.get(3)?.map((value) => (value instanceof Buffer ? [...value] : value)),
    [[10, 0, 0, 1]],
  );
  assert.deepEqual(workload.get(5), [1], 'HBONE');
  stream.send({ type, nonce: response.nonce });
  stream.call.end();
  assert.equal((await stream.ended()).status, '0');

  const resumed = new RawXdsStream(session, token);
  resumed.send({ type, held: { [resource.name]: resource.version } });
  assert.deepEqual((await resumed.next()).resources, []);
  resumed.call.end();
});

test('a stranger without a token is told so in the status, and garbage does no harm', async (context) => {
  const { session, token } = await open(context);
  const path = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
  const call = new RawCall(session, path, 'x.y.z').read();
  call.end();
  assert.equal((await call.ended)['grpc-status'], '16');
  const garbage = new RawCall(session, path, token).read();
  garbage.send(Buffer.from('ffffffffffffffffffff', 'hex'));
  garbage.end();
  assert.equal((await garbage.ended)['grpc-status'], '13');
  const discovery = new RawXdsStream(session, token);
  discovery.call.send(Buffer.from('ffffffffffffffffffff', 'hex'));
  assert.equal((await discovery.ended()).status, '3');
  const unknown = new RawCall(session, '/istio.v1.auth.IstioCertificateService/Steal', token).read();
  unknown.end();
  assert.equal((await unknown.ended)['grpc-status'], '12');
});
