import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { awaitEnd, readBytes, readToEnd } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

const IDENTITY = 'spiffe://cluster.local/ns/default/sa/';

test('policy denies new connections and ends live ones, and an innocent connection on the same tunnel goes on', async () => {
  const { mesh, near, far } = await TwoNodes.start();
  await using _ = mesh;
  const target = await mesh.server.process();
  await target.listen(8080, 'echo');
  await target.listen(9090, 'echo');
  const application = await mesh.client.process();
  const [live, innocent] = [
    await application.connect(mesh.server.address, 8080),
    await application.connect(mesh.server.address, 9090),
  ];
  for (const socket of [live, innocent]) {
    socket.write('ping');
    assert.equal(String(await readBytes(socket, 4)), 'ping');
  }
  const deniedAt = performance.now();
  mesh.configure(
    'policies:\n- { name: no, namespace: default, scope: Namespace, action: Deny, rules: [[[{ principals: [{ Exact: cluster.local/ns/default/sa/client }], destinationPorts: [8080] }]]] }',
  );
  assert.equal(await awaitEnd(live), 'ECONNRESET');
  assert.ok(performance.now() - deniedAt < 1000);
  assert.equal(await application.attempt(mesh.server.address, 8080), 'ECONNRESET');
  innocent.write('still');
  assert.equal(String(await readBytes(innocent, 5)), 'still');
  const [denied] = await far.awaitLines(1, (line) => line.reason === 'POLICY_DENIED');
  assert.equal(denied?.policy, 'default/no');
  await far.awaitLines(1, (line) => line.reason === 'POLICY_CHANGED');
  const [answer] = await near.awaitLines(1, (line) => line.reason === 'TUNNEL_STATUS');
  assert.match(String(answer?.error), /401/);
  innocent.destroy();
});

test('plaintext reaches a captured pod with the source address kept, and STRICT refuses it', async () => {
  const { mesh, far } = await TwoNodes.start();
  await using _ = mesh;
  const echo = await (await mesh.server.process()).listen(8080, 'double');
  const outsider = mesh.network.addNode().addPod('outsider');
  const application = await outsider.process();
  const socket = await application.connect(mesh.server.address, 8080);
  socket.end('hello world');
  assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
  assert.deepEqual(echo.clients, [outsider.address]);
  const [line] = await far.awaitLines(1, (found) => found.path === 'plaintext');
  assert.deepEqual([line?.bytes_sent, line?.bytes_recv], [22, 11]);
  assert.equal(line?.['src.identity'], undefined);
  mesh.configure(
    'policies:\n- { name: strict, namespace: default, scope: Namespace, action: Deny, rules: [[[{ notPrincipals: [Presence] }]]] }',
  );
  assert.equal(await application.attempt(mesh.server.address, 8080), 'ECONNRESET');
  const tunnelled = await (await mesh.client.process()).connect(mesh.server.address, 8080);
  tunnelled.end('still welcome');
  assert.equal(String(await readToEnd(tunnelled)), 'still welcomestill welcome');
});

test('a policy that arrives a moment after the workload that names it cuts nothing; one that stays away refuses', async () => {
  const { mesh, near, far } = await TwoNodes.start();
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'echo');
  const callers = [mesh.client, mesh.second, mesh.network.addNode().addPod('outsider')];
  const applications = await Promise.all(callers.map((caller) => caller.process()));
  const exchange = async () => {
    const sockets = await Promise.all(applications.map((caller) => caller.connect(mesh.server.address, 8080)));
    for (const socket of sockets) socket.write('ping');
    return { sockets, answered: Promise.all(sockets.map((socket) => readBytes(socket, 4))) };
  };
  const live = await exchange();
  await live.answered;
  const name = (policy: string) =>
    far.configure(
      `workloads: [{ name: server, namespace: default, serviceAccount: server, workloadIps: [${mesh.server.address}], node: node2, protocol: HBONE, services: {}, authorizationPolicies: [default/${policy}] }]`,
    );

  name('late');
  const early = await exchange();
  await eventually('all three wait', async () =>
    assert.equal(await far.gauge('ambit_worker_waiting_connections'), callers.length),
  );
  far.configure(
    'policies: [{ name: late, namespace: default, scope: WorkloadSelector, action: Allow, rules: [[[{ destinationPorts: [8080] }]]] }]',
  );
  await early.answered;
  for (const socket of live.sockets) {
    socket.write('still');
    assert.equal(String(await readBytes(socket, 5)), 'still');
  }

  const startMs = performance.now();
  name('never');
  const ends = await Promise.all([...live.sockets, ...early.sockets].map((socket) => awaitEnd(socket)));
  assert.ok(performance.now() - startMs < 1000);
  assert.deepEqual(new Set(ends), new Set(['ECONNRESET']));
  for (const caller of applications) assert.equal(await caller.attempt(mesh.server.address, 8080), 'ECONNRESET');
  // Pods of one node: source and destination report.
  const refused = await far.awaitLines(4, (line) => line.reason === 'POLICY_UNKNOWN');
  for (const line of refused) assert.match(String(line.error), /default\/never/);
  await near.awaitLines(1, (line) => line.reason === 'TUNNEL_STATUS');
});

test('a refusing application is reset at the client, and both records say why', async () => {
  const { mesh, near, far } = await TwoNodes.start();
  await using _ = mesh;
  assert.equal(await (await mesh.client.process()).attempt(mesh.server.address, 9999), 'ECONNRESET');
  const [inbound] = await far.awaitLines(1, (line) => line.reason === 'CONNECT_FAILED');
  assert.match(String(inbound?.error), /ECONNREFUSED/);
  const [outbound] = await near.awaitLines(1, (line) => line.reason === 'TUNNEL_STATUS');
  assert.match(String(outbound?.error), /503/);
});

test('encryption forced, pods of one node use a tunnel too', async () => {
  const { mesh, near } = await TwoNodes.start({ settings: { forceEncryption: true } });
  await using _ = mesh;
  await (await mesh.neighbour.process()).listen(8080, 'double');
  const socket = await (await mesh.client.process()).connect(mesh.neighbour.address, 8080);
  socket.end('hello world');
  assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
  const lines = await near.awaitLines(2, () => true);
  for (const line of lines) assert.equal(line.path, 'hbone');
});

test('without a certificate a connection waits for its time and is then refused with the reason', async () => {
  const { mesh, near } = await TwoNodes.start({
    withoutCertificate: new Set([`${IDENTITY}client`]),
    settings: { readinessWaitMs: 300 },
  });
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'double');
  assert.equal(await (await mesh.client.process()).attempt(mesh.server.address, 8080), 'ECONNRESET');
  const [line] = await near.awaitLines(1, (found) => found.reason === 'NO_CERTIFICATE');
  assert.match(String(line?.error), /the test gives no certificate/);
});
