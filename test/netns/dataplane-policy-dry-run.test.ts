import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import type { TestPod } from '../support/netns.ts';
import { readToEnd } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

const IDENTITY = 'spiffe://cluster.local/ns/default/sa/';
const DRY_RUN_MATCHES = 'ambit_dry_run_policy_matches';

test('dry-run policies change nothing, and each new connection they would have judged is logged and counted once', async () => {
  const { mesh, near, far } = await TwoNodes.start();
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'double');
  const outsider = mesh.network.addNode().addPod('outsider');
  const ask = async (pod: TestPod, greeting: string) => {
    const socket = await (await pod.process()).connect(mesh.server.address, 8080);
    socket.end(greeting);
    assert.equal(String(await readToEnd(socket)), greeting + greeting);
  };
  const matches = async () => ({
    deny: await far.gauge(DRY_RUN_MATCHES, { action: 'deny', outcome: 'match' }),
    allow: await far.gauge(DRY_RUN_MATCHES, { action: 'allow', outcome: 'match' }),
    noAllow: await far.gauge(DRY_RUN_MATCHES, { action: 'allow', outcome: 'no_match' }),
  });
  await ask(mesh.client, 'before');
  assert.deepEqual(await matches(), { deny: 0, allow: 0, noAllow: 0 });
  mesh.configure(
    [
      'policies:',
      '- { name: would-deny, namespace: default, scope: Namespace, action: Deny, dryRun: true, rules: [[[{ principals: [{ Exact: cluster.local/ns/default/sa/client }] }]]] }',
      '- { name: would-allow, namespace: default, scope: Namespace, action: Allow, dryRun: true, rules: [[[{ principals: [{ Exact: cluster.local/ns/default/sa/second }] }]]] }',
    ].join('\n'),
  );

  await ask(mesh.client, 'tunnelled');
  await ask(mesh.second, 'same node');
  await ask(outsider, 'plaintext');
  const lines = await far.awaitLines(4, ({ scope }) => scope === 'rbac');
  const target = { 'dst.addr': `${mesh.server.address}:8080`, 'dst.workload': 'server', 'dst.namespace': 'default' };
  const told = lines.map(({ level, message, policy, path, ...line }) => {
    for (const [name, value] of Object.entries(target)) assert.equal(line[name], value);
    assert.equal(level, 'info');
    return [message, policy, path, String(line['src.addr']).split(':')[0], line['src.identity']].join(' | ');
  });
  assert.deepEqual(
    new Set(told),
    new Set([
      `dry-run: deny policy match | default/would-deny | hbone | ${mesh.client.address} | ${IDENTITY}client`,
      `dry-run: no allow policies match | default/would-allow | hbone | ${mesh.client.address} | ${IDENTITY}client`,
      `dry-run: allow policy match | default/would-allow | same-node | ${mesh.second.address} | ${IDENTITY}second`,
      `dry-run: no allow policies match | default/would-allow | plaintext | ${outsider.address} | `,
    ]),
  );
  assert.deepEqual(await matches(), { deny: 1, allow: 1, noAllow: 2 });
  assert.equal(await near.gauge(DRY_RUN_MATCHES), 0, 'the destination judges');

  far.configure(
    `workloads: [{ name: server, namespace: default, serviceAccount: server, workloadIps: [${mesh.server.address}], node: node2, protocol: HBONE, services: {}, authorizationPolicies: [default/late] }]`,
  );
  const waiting = ask(mesh.client, 'after a wait');
  await eventually('it waits', async () => assert.equal(await far.gauge('ambit_worker_waiting_connections'), 1));
  far.configure(
    'policies: [{ name: late, namespace: default, scope: WorkloadSelector, action: Allow, rules: [[[{ destinationPorts: [8080] }]]] }]',
  );
  await waiting;
  await far.awaitLines(6, ({ scope }) => scope === 'rbac');
  assert.deepEqual(await matches(), { deny: 2, allow: 1, noAllow: 3 });
  assert.deepEqual(await far.refusals(), {});
});
