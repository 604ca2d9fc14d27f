/**
 * A peer with a valid certificate asks port 15008 for things it must not have: other addresses than the pod's, the agent's
 * own ports, names nobody knows; and it lies in headers. Only its identity counts.
 */
import assert from 'node:assert/strict';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { eventually } from '../support/eventually.ts';
import { TwoNodes } from '../support/two-nodes.ts';

/** An HBONE client of a stranger over a socket of the stranger's pod. */
function openSession(mesh: TwoNodes, socket: Socket, serviceAccount: string): ClientHttp2Session {
  const uri = `spiffe://cluster.local/ns/default/sa/${serviceAccount}`;
  const leaf = mesh.authority.issue({ uris: [uri] });
  const secure = connectTls({
    socket,
    cert: leaf.certificateChainPem,
    key: leaf.privateKeyPem,
    ca: mesh.authority.pem,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
  });
  const session = connectHttp2('https://unused', { createConnection: () => secure });
  session.on('error', () => {});
  return session;
}

/** Status of a CONNECT; the stream is closed. */
function ask(session: ClientHttp2Session, authority: string, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':method': 'CONNECT', ':authority': authority, ...headers }, { endStream: false });
    stream.on('response', (answer) => {
      resolve(Number(answer[':status']));
      stream.close();
    });
    stream.on('error', reject);
  });
}

test('a tunnel leads to the addresses of its pod and nowhere else', async () => {
  const { mesh, far } = await TwoNodes.start();
  await using _ = mesh;
  const outsider = mesh.network.addNode().addPod('outsider');
  const echo = await (await mesh.server.process()).listen(8080, 'double');
  const elsewhere = await (await mesh.second.process()).listen(8080, 'double');
  const session = openSession(mesh, await (await outsider.process()).connect(mesh.server.address, 15008), 'outsider');
  const own = mesh.server.address;
  const cases: [authority: string, status: number][] = [
    [`${mesh.second.address}:8080`, 400],
    [`${mesh.network.nodes[1]?.address}:22`, 400],
    ['127.0.0.1:8080', 400],
    ['[::1]:8080', 400],
    ['0.0.0.0:8080', 400],
    ['169.254.169.254:80', 400],
    ['224.0.0.1:80', 400],
    [`${own}:15001`, 503],
    [`${own}:15006`, 503],
    [`${own}:15008`, 503],
    ['nobody.default.svc.cluster.local:80', 503],
    ['web.default.svc.cluster.local:81', 503],
    [`${own}:9999`, 503],
    [`${own}:8080`, 200],
    ['web.default.svc.cluster.local:80', 200],
  ];
  for (const [authority, status] of cases) assert.equal(await ask(session, authority), status, authority);
  session.destroy();
  await eventually('both connections reached the application', () => assert.equal(echo.clients.length, 2));
  assert.equal(elsewhere.clients.length, 0);
  const { BAD_AUTHORITY = 0, LOOP = 0 } = await far.refusals();
  assert.deepEqual([BAD_AUTHORITY, LOOP], [7, 3]);
});

test('headers of a peer change neither the policy nor what is known of it', async () => {
  const { mesh, far } = await TwoNodes.start();
  await using _ = mesh;
  mesh.configure(
    'policies:\n- { name: only-client, namespace: default, scope: Namespace, action: Allow, rules: [[[{ principals: [{ Exact: cluster.local/ns/default/sa/client }] }]]] }',
  );
  const outsider = mesh.network.addNode().addPod('outsider');
  await (await mesh.server.process()).listen(8080, 'double');
  const session = openSession(mesh, await (await outsider.process()).connect(mesh.server.address, 15008), 'outsider');
  const lies = {
    baggage: 'k8s.namespace.name=default,k8s.deployment.name=client,service.name=client",reason="none',
    forwarded: `for="${mesh.client.address}:1";host=web.default.svc.cluster.local`,
    'x-forwarded-network': 'elsewhere',
  };
  assert.equal(await ask(session, `${mesh.server.address}:8080`, lies), 401);
  session.destroy();
  const [line] = await far.awaitLines(1, (found) => found.reason === 'POLICY_DENIED');
  assert.equal(line?.['src.identity'], 'spiffe://cluster.local/ns/default/sa/outsider');
  assert.ok(String(line?.['src.addr']).startsWith(`${outsider.address}:`));
});

test('a peer of another trust domain is turned away before any request', async () => {
  const { mesh, far } = await TwoNodes.start();
  await using _ = mesh;
  const outsider = mesh.network.addNode().addPod('outsider');
  const leaf = mesh.authority.issue({ uris: ['spiffe://elsewhere/ns/default/sa/client'] });
  const secure = connectTls({
    socket: await (await outsider.process()).connect(mesh.server.address, 15008),
    cert: leaf.certificateChainPem,
    key: leaf.privateKeyPem,
    ca: mesh.authority.pem,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
  });
  secure.on('error', () => {});
  await new Promise((resolve) => secure.once('close', resolve));
  await far.awaitLines(1, (line) => line.reason === 'TRUST_DOMAIN');
});
