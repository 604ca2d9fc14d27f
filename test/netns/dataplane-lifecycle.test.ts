import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { eventually } from '../support/eventually.ts';
import { TestNetwork } from '../support/netns.ts';
import { readToEnd } from '../support/socket-exchange.ts';

test('a connection waits for the announcement of its pod instead of failing', async () => {
  await using network = TestNetwork.create();
  const client = network.addNode().addPod('client');
  const server = network.addNode().addPod('server');
  await using agent = await TestDataplane.start({ node: 'node1' });
  await agent.enrol(client);
  await (await server.process()).listen(8080, 'double');
  const socket = await (await client.process()).connect(server.address, 8080);
  socket.end('early');
  const answer = readToEnd(socket);
  await eventually('a waiting connection', async () => {
    assert.equal(await agent.gauge('ambit_worker_waiting_connections'), 1);
  });
  agent.configure(
    `workloads: [{ name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, services: {} }]`,
  );
  assert.equal(String(await answer), 'earlyearly');
});

test('a pod that is never announced is refused when the waiting time is over', async () => {
  await using network = TestNetwork.create();
  const client = network.addNode().addPod('client');
  await using agent = await TestDataplane.start({ node: 'node1', settings: { readinessWaitMs: 200 } });
  await agent.enrol(client);
  assert.equal(await (await client.process()).attempt('10.77.1.99', 8080), 'ECONNRESET');
  await agent.awaitLines(1, (line) => line.reason === 'UNKNOWN_WORKLOAD');
  assert.deepEqual(await agent.refusals(), { UNKNOWN_WORKLOAD: 1 });
});

test('a connection that waits ends at once when its pod is removed', async () => {
  await using network = TestNetwork.create();
  const client = network.addNode().addPod('client');
  await using agent = await TestDataplane.start({ node: 'node1', settings: { readinessWaitMs: 60_000 } });
  const { uid } = await agent.enrol(client);
  const attempt = (await client.process()).attempt('10.77.1.99', 8080);
  await eventually('a waiting connection', async () => {
    assert.equal(await agent.gauge('ambit_worker_waiting_connections'), 1);
  });
  await agent.dataplane.removePod(uid);
  assert.equal(await attempt, 'ECONNRESET');
  await agent.awaitLines(1, (line) => line.reason === 'DRAINED');
});

test('what the registry does not know is passed through, or refused where the registry is the limit', async () => {
  for (const outboundPolicy of ['ALLOW_ANY', 'REGISTRY_ONLY'] as const) {
    await using network = TestNetwork.create();
    const client = network.addNode().addPod('client');
    const server = network.addNode().addPod('server');
    await using agent = await TestDataplane.start({ node: 'node1', settings: { outboundPolicy } });
    agent.configure(
      `workloads: [{ name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, services: {} }]`,
    );
    await agent.enrol(client);
    await (await server.process()).listen(8080, 'double');
    const application = await client.process();
    if (outboundPolicy === 'ALLOW_ANY') {
      const socket = await application.connect(server.address, 8080);
      socket.end('x');
      assert.equal(String(await readToEnd(socket)), 'xx');
      const [line] = await agent.awaitLines(1, () => true);
      assert.equal(line?.['dst.workload'], undefined);
    } else {
      assert.equal(await application.attempt(server.address, 8080), 'ECONNRESET');
      await agent.awaitLines(1, (line) => line.reason === 'REGISTRY_ONLY');
    }
  }
});
