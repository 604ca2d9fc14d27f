import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { TestNetwork } from '../support/netns.ts';
import { readToEnd } from '../support/socket-exchange.ts';

test('a captured client reaches a server outside the mesh, and the record is exact', async () => {
  await using network = TestNetwork.create();
  const client = network.addNode().addPod('client');
  const server = network.addNode().addPod('server');
  await using agent = await TestDataplane.start({ node: 'node1' });
  agent.configure(`
workloads:
- { name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, protocol: HBONE, services: {} }
- { name: server, namespace: default, serviceAccount: server, workloadIps: [${server.address}], node: node2, protocol: TCP, services: {} }
`);
  await agent.enrol(client);
  const echo = await (await server.process()).listen(8080, 'double');
  const socket = await (await client.process()).connect(server.address, 8080);
  socket.end('hello world');
  assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
  assert.deepEqual(echo.clients, [client.address]);
  const [line] = await agent.awaitLines(1, () => true);
  assert.equal(line?.message, 'connection complete');
  assert.equal(line?.path, 'plaintext');
  assert.equal(line?.['dst.addr'], `${server.address}:8080`);
  assert.equal(line?.['dst.workload'], 'server');
  assert.equal(line?.['src.identity'], undefined);
  assert.deepEqual([line?.bytes_sent, line?.bytes_recv], [11, 22]);
  assert.deepEqual(await agent.traffic({ reporter: 'source', connection_security_policy: 'unknown' }), {
    opened: 1,
    closed: 1,
    failed: 0,
    received: 11,
    sent: 22,
  });
});
