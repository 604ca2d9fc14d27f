/**
 * Dedicated agents whose workloads and certificates come from a control plane: each proves with its token that it is the
 * service account of its pod, and gets that identity.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyRules } from '../../agent/enrol/nft.ts';
import { PodRouting } from '../../agent/enrol/pod-routing.ts';
import { buildRuleset } from '../../agent/enrol/rules.ts';
import { NO_OVERRIDES } from '../../core/enrolment/overrides.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { DedicatedMesh } from '../support/dedicated-mesh.ts';
import type { TestPod } from '../support/netns.ts';
import { readToEnd } from '../support/socket-exchange.ts';

const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/';

/** What an init container would do: the rules stand before the agent comes. */
async function installRules(pod: TestPod): Promise<void> {
  const netns = NetworkNamespace.openPath(pod.path);
  try {
    using routing = PodRouting.open(netns);
    await routing.ensure();
    await applyRules(netns, buildRuleset(NO_OVERRIDES));
  } finally {
    netns.close();
  }
}

/** Without counters. */
function listRules(pod: TestPod): string {
  return pod.exec('nft', '--stateless', 'list', 'ruleset');
}

async function requireTunnel(mesh: DedicatedMesh, client: TestPod, server: TestPod): Promise<void> {
  const socket = await (await client.process()).connect(server.address, 8080);
  socket.end('hello world');
  assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
  const [outbound] = await mesh
    .agentOf(client)
    .awaitLines(1, (line) => line.direction === 'outbound' && line.path === 'hbone');
  const [inbound] = await mesh
    .agentOf(server)
    .awaitLines(1, (line) => line.direction === 'inbound' && line.path === 'hbone');
  for (const line of [outbound, inbound]) {
    assert.deepEqual([line?.['src.identity'], line?.['dst.identity']], [`${IDENTITY}client`, `${IDENTITY}server`]);
  }
}

for (const standing of [false, true]) {
  const where = standing ? 'stand already' : 'are those of the agent';
  test(`identities come from the certificate authority where the rules ${where}`, async () => {
    await using mesh = await DedicatedMesh.start();
    const [client, server] = [mesh.addPod('client'), mesh.addPod('server')];
    const pods = [client, server];
    if (standing) await Promise.all(pods.map((pod) => installRules(pod)));
    const before = pods.map((pod) => listRules(pod));
    await Promise.all(pods.map((pod) => mesh.startAgent(pod, standing ? [] : ['--capture'])));
    await (await server.process()).listen(8080, 'double');
    await requireTunnel(mesh, client, server);
    for (const pod of pods) {
      const { certificates } = JSON.parse(mesh.agentOf(pod).get(15000, '/config_dump'));
      assert.deepEqual(
        certificates.map(({ identity, state }: Record<string, unknown>) => [identity, state]),
        [[`${IDENTITY}${pod.label}`, 'Available']],
      );
    }
    assert.deepEqual(await Promise.all(pods.map((pod) => mesh.agentOf(pod).stop())), [0, 0]);
    assert.deepEqual(
      pods.map((pod) => listRules(pod)),
      before,
    );
    // Rules of somebody else stay, and with them the pod stays closed.
    if (standing) assert.equal(await (await client.process()).attempt(server.address, 8080), 'ECONNREFUSED');
  });
}

test('an agent that was killed behind its own rules reaches the control plane again', async () => {
  await using mesh = await DedicatedMesh.start();
  const [client, server] = [mesh.addPod('client'), mesh.addPod('server')];
  await Promise.all([client, server].map((pod) => mesh.startAgent(pod, ['--capture'])));
  await (await server.process()).listen(8080, 'double');
  await mesh.agentOf(client).kill();
  assert.equal(await (await client.process()).attempt(server.address, 8080), 'ECONNREFUSED');
  await mesh.startAgent(client, ['--capture']);
  await requireTunnel(mesh, client, server);
});
