/**
 * Rows 16 and 17: a pod with NET_RAW prepares the connection tracking of another pod so that its connection would never be
 * redirected to the agent. A segment that is no SYN begins a flow; an unexpected TCP-MD5 option keeps the victim's kernel
 * from answering with a reset that would end the flow again; the SYN that follows belongs to a flow that exists.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { eventually } from '../support/eventually.ts';
import { TestNetwork, type TestPod } from '../support/netns.ts';
import { ACK, sendRawSegment } from '../support/raw-segment.ts';

const DIALLER = `
const net = require('node:net');
const [localAddress, localPort, host, port] = process.argv.slice(1);
const socket = net.connect({ host, port: Number(port), localAddress, localPort: Number(localPort) });
const say = (text) => process.stdout.write(text, () => process.exit());
socket.on('connect', () => socket.write('x'));
socket.on('data', () => say('answered'));
socket.on('close', () => say('closed'));
socket.on('error', (error) => say(error.code));
setTimeout(() => say('nothing'), 2500);
`;

/** Connects from one port of the pod; 'answered' or how it ended. */
function dialFrom(pod: TestPod, localPort: number, host: string, port: number): string {
  return pod.exec(process.execPath, '-e', DIALLER, pod.address, String(localPort), host, String(port));
}

const UNEXPECTED_MD5 = Buffer.from([19, 18, ...Buffer.alloc(16, 0x41), 1, 1]);

test('a flow that was begun without a SYN does not lead past the agent', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [stranger, server] = [node.addPod('stranger'), node.addPod('server')];
  await using agent = await TestDataplane.start({ node: 'node1' });
  agent.configure(`
workloads:
- { name: server, namespace: default, serviceAccount: server, workloadIps: [${server.address}], node: node1, protocol: HBONE, services: {} }
policies:
- { name: no-plaintext, namespace: default, scope: Namespace, action: Deny, rules: [[[{ notPrincipals: [Presence] }]]] }
`);
  await agent.enrol(server);
  const application = await (await server.process()).listen(8080, 'double');
  assert.notEqual(dialFrom(stranger, 40_000, server.address, 8080), 'answered');
  await eventually('the refusal of the honest call', async () =>
    assert.equal((await agent.refusals()).POLICY_DENIED, 1),
  );
  for (const [index, options] of [UNEXPECTED_MD5, Buffer.alloc(0)].entries()) {
    const fromPort = 40_001 + index;
    const segment = { from: stranger.address, fromPort, to: server.address, toPort: 8080, flags: ACK, options };
    sendRawSegment(stranger.path, segment);
    assert.notEqual(
      dialFrom(stranger, fromPort, server.address, 8080),
      'answered',
      `${options.length} bytes of options`,
    );
  }
  assert.deepEqual(application.clients, []);
});
