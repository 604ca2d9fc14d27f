/** An endpoint that cannot be reached: the connection goes to another one of the service before the client notices. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { TestNetwork, type TestPod } from '../support/netns.ts';
import { readToEnd } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

const SERVICE = '10.96.0.1';
const CONNECTIONS = 20;

test('through tunnels: every connection reaches the endpoint whose application listens', async () => {
  const { mesh, near } = await TwoNodes.start();
  await using _ = mesh;
  const alive = await (await mesh.second.process()).listen(8080, 'double');
  const application = await mesh.client.process();
  for (let index = 0; index < CONNECTIONS; index++) {
    const socket = await application.connect(SERVICE, 80);
    socket.end('x');
    assert.equal(String(await readToEnd(socket)), 'xx');
  }
  assert.equal(alive.clients.length, CONNECTIONS);
  const retries = await near.gauge('ambit_endpoint_retries');
  assert.ok(retries > 0 && retries < CONNECTIONS, `${retries}`);
  await near.awaitLines(retries, (line) => line.reason === 'TUNNEL_STATUS');
  await near.awaitLines(CONNECTIONS, (line) => line.error === undefined);
});

test('through tunnels: when no endpoint can be reached two are tried, and the last reason is told', async () => {
  const { mesh, near } = await TwoNodes.start();
  await using _ = mesh;
  assert.equal(await (await mesh.client.process()).attempt(SERVICE, 80), 'ECONNRESET');
  await near.awaitLines(2, (line) => line.reason === 'TUNNEL_STATUS');
});

test('a denial is not tried elsewhere', async () => {
  const { mesh, near } = await TwoNodes.start();
  await using _ = mesh;
  for (const pod of [mesh.server, mesh.second]) await (await pod.process()).listen(8080, 'double');
  mesh.configure(`
policies:
- { name: nobody, namespace: default, scope: Namespace, action: Deny, rules: [[[{ notDestinationPorts: [1] }]]] }
`);
  assert.equal(await (await mesh.client.process()).attempt(SERVICE, 80), 'ECONNRESET');
  await near.awaitLines(1, (line) => line.reason === 'TUNNEL_STATUS');
  assert.equal(await near.gauge('ambit_endpoint_retries'), 0);
});

test('between pods of one node likewise', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, dead, living] = [node.addPod('client'), node.addPod('dead'), node.addPod('living')];
  await using agent = await TestDataplane.start({ node: 'node1' });
  const workload = (pod: TestPod): string =>
    `- { name: ${pod.label}, namespace: default, serviceAccount: ${pod.label}, workloadIps: [${pod.address}], node: node1, protocol: HBONE, services: { default/web.default.svc.cluster.local: { 80: 8080 } } }`;
  agent.configure(`
workloads:
- { name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, protocol: HBONE, services: {} }
${workload(dead)}
${workload(living)}
services:
- { name: web, namespace: default, hostname: web.default.svc.cluster.local, vips: ["/${SERVICE}"], ports: { 80: 8080 } }
`);
  for (const pod of [client, dead, living]) await agent.enrol(pod);
  await (await living.process()).listen(8080, 'double');
  const application = await client.process();
  for (let index = 0; index < CONNECTIONS; index++) {
    const socket = await application.connect(SERVICE, 80);
    socket.end('x');
    assert.equal(String(await readToEnd(socket)), 'xx');
  }
  assert.ok((await agent.gauge('ambit_endpoint_retries')) > 0);
});
