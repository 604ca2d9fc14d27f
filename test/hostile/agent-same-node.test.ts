/**
 * A pod that calls a neighbour on its own node with an address that is not its own: the loopback address, which any process
 * may bind, and an address it has put on an interface itself. Neither the neighbour's application nor policy may see it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { eventually } from '../support/eventually.ts';
import { TestNetwork, type TestPod } from '../support/netns.ts';

const DIALLER = `
const net = require('node:net');
const [localAddress, host, port] = process.argv.slice(1);
const socket = net.connect({ host, port: Number(port), localAddress });
socket.on('connect', () => socket.write('x'));
socket.on('data', () => { process.stdout.write('answered'); socket.destroy(); });
socket.on('error', (error) => process.stdout.write(error.code));
setTimeout(() => { process.stdout.write('nothing'); socket.destroy(); }, 3000).unref();
`;

/** Connects from an address of the caller's choice; 'answered' or how it ended. */
function dialFrom(pod: TestPod, localAddress: string, host: string, port: number): string {
  return pod.exec(process.execPath, '-e', DIALLER, localAddress, host, String(port));
}

test('a neighbour never sees an address that the calling pod does not have', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, server] = [node.addPod('client'), node.addPod('server')];
  await using agent = await TestDataplane.start({ node: 'node1' });
  agent.configure(`
workloads:
- { name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, protocol: HBONE, services: {} }
- { name: server, namespace: default, serviceAccount: server, workloadIps: [${server.address}], node: node1, protocol: HBONE, services: {} }
`);
  await agent.enrol(client);
  await agent.enrol(server);
  const application = await (await server.process()).listen(8080, 'double');
  client.ip('addr add 10.99.0.7/32 dev lo');
  for (const forged of ['127.0.0.1', '127.9.9.9', '10.99.0.7']) dialFrom(client, forged, server.address, 8080);
  assert.equal(dialFrom(client, client.address, server.address, 8080), 'answered');
  await eventually('the honest call', () => assert.ok(application.clients.includes(client.address)));
  assert.deepEqual([...new Set(application.clients)], [client.address]);
});

test('an address put on an interface does not satisfy a policy about addresses', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, server] = [node.addPod('client'), node.addPod('server')];
  await using agent = await TestDataplane.start({ node: 'node1' });
  agent.configure(`
workloads:
- { name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, protocol: HBONE, services: {} }
- { name: server, namespace: default, serviceAccount: server, workloadIps: [${server.address}], node: node1, protocol: HBONE, services: {} }
policies:
- { name: only-the-office, namespace: default, scope: Namespace, action: Allow, rules: [[[{ sourceIps: [10.99.0.7/32] }]]] }
`);
  await agent.enrol(client);
  await agent.enrol(server);
  const application = await (await server.process()).listen(8080, 'double');
  client.ip('addr add 10.99.0.7/32 dev lo');
  assert.notEqual(dialFrom(client, '10.99.0.7', server.address, 8080), 'answered');
  assert.deepEqual(application.clients, []);
});

test('an address that the registry still gives to a pod of this node, but that another one has now, is not called', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, server, successor] = [node.addPod('client'), node.addPod('server'), node.addPod('successor')];
  await using agent = await TestDataplane.start({ node: 'node1' });
  agent.configure(`
workloads:
- { name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, protocol: HBONE, services: {} }
- { name: server, namespace: default, serviceAccount: server, workloadIps: [${successor.address}], node: node1, protocol: HBONE, services: {} }
`);
  await agent.enrol(client);
  await agent.enrol(server);
  const application = await (await successor.process()).listen(8080, 'double');
  assert.notEqual(dialFrom(client, client.address, successor.address, 8080), 'answered');
  await eventually('the refusal', async () => assert.equal((await agent.refusals()).UNKNOWN_WORKLOAD, 1));
  assert.deepEqual(application.clients, []);
});
