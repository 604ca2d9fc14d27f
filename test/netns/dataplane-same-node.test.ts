import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { TestNetwork, type TestPod } from '../support/netns.ts';
import { awaitEnd, readBytes, readToEnd } from '../support/socket-exchange.ts';

const IDENTITY = 'spiffe://cluster.local/ns/default/sa/';

function mesh(client: TestPod, server: TestPod, more = ''): string {
  return `
workloads:
- { name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, protocol: HBONE, services: {} }
- { name: server, namespace: default, serviceAccount: server, workloadIps: [${server.address}], node: node1, protocol: HBONE, services: { default/server.default.svc.cluster.local: { 80: 8080 } } }
services:
- { name: server, namespace: default, hostname: server.default.svc.cluster.local, vips: ["/10.96.0.1"], ports: { 80: 8080 } }
${more}
`;
}

function denyPolicy(name: string, match: string): string {
  return `
policies:
- { name: ${name}, namespace: default, scope: Namespace, action: Deny, rules: [[[${match}]]] }
`;
}

test('two pods of one node talk directly: no tunnel, both identities, two records', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, server] = [node.addPod('client'), node.addPod('server')];
  await using agent = await TestDataplane.start({ node: 'node1' });
  agent.configure(mesh(client, server));
  await agent.enrol(client);
  await agent.enrol(server);
  const echo = await (await server.process()).listen(8080, 'double');
  for (const [host, port] of [
    [server.address, 8080],
    ['10.96.0.1', 80],
  ] as const) {
    const socket = await (await client.process()).connect(host, port);
    socket.end('hello world');
    assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
  }
  assert.deepEqual(echo.clients, [client.address, client.address]);
  const lines = await agent.awaitLines(4, () => true);
  for (const line of lines) {
    assert.equal(line.path, 'same-node');
    assert.equal(line['src.identity'], `${IDENTITY}client`);
    assert.equal(line['dst.identity'], `${IDENTITY}server`);
    assert.equal(line['dst.addr'], `${server.address}:8080`);
    const bytes = line.direction === 'outbound' ? [11, 22] : [22, 11];
    assert.deepEqual([line.bytes_sent, line.bytes_recv], bytes);
  }
  assert.equal(lines.filter((line) => line.direction === 'inbound').length, 2);
  assert.equal(lines.filter((line) => line['dst.service'] === 'server.default.svc.cluster.local').length >= 2, true);
  for (const reporter of ['source', 'destination']) {
    const labels = {
      reporter,
      connection_security_policy: 'unknown',
      source_principal: `${IDENTITY}client`,
      destination_principal: `${IDENTITY}server`,
    };
    assert.deepEqual(await agent.traffic(labels), { opened: 2, closed: 2, failed: 0, received: 22, sent: 44 });
  }
});

test('policy of the destination denies new connections and ends live ones within a second', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, server] = [node.addPod('client'), node.addPod('server')];
  await using agent = await TestDataplane.start({ node: 'node1' });
  agent.configure(mesh(client, server));
  await agent.enrol(client);
  await agent.enrol(server);
  await (await server.process()).listen(8080, 'echo');
  const application = await client.process();
  const live = await application.connect(server.address, 8080);
  live.write('ping');
  assert.equal(String(await readBytes(live, 4)), 'ping');
  const deniedAt = performance.now();
  agent.configure(
    mesh(client, server, denyPolicy('no-client', `{ principals: [{ Exact: cluster.local/ns/default/sa/client }] }`)),
  );
  assert.equal(await awaitEnd(live), 'ECONNRESET');
  assert.ok(performance.now() - deniedAt < 1000);
  assert.equal(await application.attempt(server.address, 8080), 'ECONNRESET');
  const lines = await agent.awaitLines(4, () => true);
  assert.deepEqual(lines.map((line) => line.reason).sort(), [
    'POLICY_CHANGED',
    'POLICY_CHANGED',
    'POLICY_DENIED',
    'POLICY_DENIED',
  ]);
  const denied = await agent.traffic({ reporter: 'destination', response_flags: 'DENY' });
  assert.deepEqual([denied.closed, denied.failed], [2, 2]);
});

test('an application that refuses is reset at the client, with the cause in both records', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, server] = [node.addPod('client'), node.addPod('server')];
  await using agent = await TestDataplane.start({ node: 'node1' });
  agent.configure(mesh(client, server));
  await agent.enrol(client);
  await agent.enrol(server);
  assert.equal(await (await client.process()).attempt(server.address, 9999), 'ECONNRESET');
  const lines = await agent.awaitLines(2, (line) => line.reason === 'CONNECT_FAILED');
  assert.match(String(lines[0]?.error), /ECONNREFUSED/);
});
