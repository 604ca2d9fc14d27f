/**
 * Everything real but the container runtime: a control plane process, two agents in shared mode, pods enrolled by calling
 * the built CNI plugin. Configuration is YAML in a folder, as an operator would edit it.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import type { TestPod } from '../support/netns.ts';
import { SharedMesh } from '../support/shared-mesh.ts';
import { awaitEnd, readBytes, readToEnd } from '../support/socket-exchange.ts';

const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/';

async function exchange(from: TestPod, to: TestPod): Promise<void> {
  const socket = await (await from.process()).connect(to.address, 8080);
  socket.end('hello world');
  assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
}

test('a mesh of real processes: enrolment, tunnel, policy from a file, an agent killed, a control plane gone', async () => {
  await using mesh = await SharedMesh.start();
  const [first, second] = mesh.nodes;
  assert.ok(first && second);
  const client = await mesh.addPod(first, 'client');
  const server = await mesh.addPod(second, 'server');
  const echo = await (await server.process()).listen(8080, 'double');

  await exchange(client, server);
  assert.deepEqual(echo.clients, [client.address]);
  const [outbound] = await mesh.agentOf(client).awaitLines(1, (line) => line.direction === 'outbound');
  const [inbound] = await mesh.agentOf(server).awaitLines(1, (line) => line.direction === 'inbound');
  assert.deepEqual([outbound?.path, outbound?.bytes_sent, outbound?.bytes_recv], ['hbone', 11, 22]);
  assert.deepEqual([inbound?.path, inbound?.bytes_sent, inbound?.bytes_recv], ['hbone', 22, 11]);
  assert.equal(inbound?.['src.identity'], `${IDENTITY}client`);
  assert.equal(mesh.agentOf(client).metric('istio_tcp_received_bytes_total', 'reporter="source"'), 11);

  // Without the control plane everything known stays in force.
  await mesh.stopControl();
  await exchange(client, server);

  // A killed agent: closed at once, open again with its successor, the pod untouched.
  await mesh.agentOf(client).kill();
  assert.equal(await (await client.process()).attempt(server.address, 8080), 'ECONNREFUSED');
  mesh.startControl();
  await mesh.startAgent(first);
  await exchange(client, server);

  // A policy file ends a live connection and refuses new ones.
  const live = await (await client.process()).connect(server.address, 8080);
  live.write('x');
  assert.equal(String(await readBytes(live, 2)), 'xx');
  mesh.write('deny.yaml', {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'no-client', namespace: 'shop' },
    spec: { action: 'DENY', rules: [{ from: [{ source: { principals: ['cluster.local/ns/shop/sa/client'] } }] }] },
  });
  assert.equal(await awaitEnd(live), 'ECONNRESET');
  assert.equal(await (await client.process()).attempt(server.address, 8080), 'ECONNRESET');
  await mesh.agentOf(server).awaitLines(1, (line) => line.reason === 'POLICY_CHANGED');
  await mesh.agentOf(server).awaitLines(1, (line) => line.reason === 'POLICY_DENIED');
});

test('an agent that was followed by one that vanished ends, so that it is started again and serves the node', async () => {
  await using mesh = await SharedMesh.start();
  const [first, second] = mesh.nodes;
  assert.ok(first && second);
  const client = await mesh.addPod(first, 'client');
  const server = await mesh.addPod(second, 'server');
  await (await server.process()).listen(8080, 'double');
  const former = mesh.agentOf(client);
  const ended = once(former.child, 'exit');
  const successor = await mesh.launchSuccessor(first);
  await eventually('the successor has taken over', () => {
    assert.ok(former.log().some((line) => line.includes('a successor has taken over')));
  });
  await exchange(client, server);
  await successor.kill();
  assert.deepEqual(await ended, [1, null]);
  assert.match(former.log().at(-1) ?? '', /the agent that took over is gone/);
  await mesh.startAgent(first);
  await exchange(client, server);
});
