/**
 * The start of an agent as a stranger sees it: pods are captured, the registry is known already, policies are not. Nobody
 * may get in during that time, whatever happens to workers meanwhile.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { eventually } from '../support/eventually.ts';
import { TestNetwork } from '../support/netns.ts';

test('a pod whose policies have not arrived lets nobody in', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [stranger, server] = [node.addPod('stranger'), node.addPod('server')];
  await using agent = await TestDataplane.start({ node: 'node1', workers: 1, settings: { readinessWaitMs: 300 } });
  agent.feed.holdAddresses();
  agent.configure(`
workloads:
- { name: server, namespace: default, serviceAccount: server, workloadIps: [${server.address}], node: node1, protocol: HBONE, services: {} }
`);
  await agent.enrol(server);
  const application = await (await server.process()).listen(8080, 'double');
  const outside = await stranger.process();
  assert.equal(await outside.attempt(server.address, 8080), 'ECONNRESET');
  await agent.dataplane.replaceWorker(0);
  await eventually('the replacement', async () => assert.ok(await agent.dataplane.isListening(`uid-${server.name}`)));
  assert.equal(await outside.attempt(server.address, 8080), 'ECONNRESET');
  assert.equal((await agent.refusals()).UNKNOWN_WORKLOAD, 1);

  agent.configure(`
policies:
- { name: nobody, namespace: default, scope: Namespace, action: Allow, rules: [] }
`);
  agent.feed.releaseAddresses();
  assert.equal(await outside.attempt(server.address, 8080), 'ECONNRESET');
  await eventually('the refusal by policy', async () => assert.equal((await agent.refusals()).POLICY_DENIED, 1));
  assert.deepEqual(application.clients, []);
});
