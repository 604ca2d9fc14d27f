import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { eventually } from '../support/eventually.ts';
import { TestNetwork } from '../support/netns.ts';
import { awaitEnd, readBytes, readToEnd } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

test('a pod that is removed is cut off and its connections end, while its neighbour goes on', async () => {
  const { mesh, far } = await TwoNodes.start();
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'echo');
  await (await mesh.second.process()).listen(8080, 'echo');
  const application = await mesh.client.process();
  const [removed, kept] = [
    await application.connect(mesh.server.address, 8080),
    await application.connect(mesh.second.address, 8080),
  ];
  for (const socket of [removed, kept]) {
    socket.write('ping');
    assert.equal(String(await readBytes(socket, 4)), 'ping');
  }
  await far.dataplane.removePod(`uid-${mesh.server.name}`);
  assert.equal(await awaitEnd(removed), 'ECONNRESET');
  kept.write('pong');
  assert.equal(String(await readBytes(kept, 4)), 'pong');
  // Its rules still stand: without a listener the pod fails closed.
  assert.equal(await application.attempt(mesh.server.address, 8080), 'ECONNRESET');
  kept.destroy();
});

test('a worker that dies is replaced and its pods are listened for again', async () => {
  const { mesh, near, far } = await TwoNodes.start();
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'double');
  const application = await mesh.client.process();
  const ask = async (): Promise<void> => {
    const socket = await application.connect(mesh.server.address, 8080);
    socket.end('x');
    assert.equal(String(await readToEnd(socket)), 'xx');
  };
  for (let i = 0; i < 8; i++) await ask();
  for (const agent of [near, far]) {
    const before = await agent.traffic({});
    await agent.dataplane.replaceWorker(0);
    for (let i = 0; i < 12; i++) await ask();
    await eventually('the replacement listens', async () => {
      const listening = agent.dataplane.pods().map(({ uid }) => agent.dataplane.isListening(uid));
      assert.ok((await Promise.all(listening)).every((value) => value));
    });
    assert.equal(agent.dataplane.counts.restarts, 1);
    for (let i = 0; i < 12; i++) await ask();
    assert.ok((await agent.traffic({})).opened >= before.opened + 24, 'counters never go back');
  }
});

test('a port that is taken makes capture fail and leaves nothing behind', async () => {
  await using network = TestNetwork.create();
  const pod = network.addNode().addPod('squatter');
  await using agent = await TestDataplane.start({ node: 'node1' });
  const squatter = await pod.process();
  await squatter.listen(15006, 'echo');
  await assert.rejects(agent.enrol(pod), (error: { code?: string }) => error.code === 'SYSTEM_CALL');
  assert.deepEqual(agent.dataplane.pods(), []);
  await squatter.listen(15008, 'echo');
});
