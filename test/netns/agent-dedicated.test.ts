import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentProcess } from '../support/agent-process.ts';
import { DedicatedFiles } from '../support/dedicated-files.ts';
import { TestNetwork } from '../support/netns.ts';
import { readToEnd } from '../support/socket-exchange.ts';

test('two dedicated agents carry a connection through a tunnel, say so, and leave their namespaces as they were', async () => {
  await using network = TestNetwork.create();
  const client = network.addNode().addPod('client');
  const server = network.addNode().addPod('server');
  using files = new DedicatedFiles([client, server]);
  const [near, far] = await Promise.all(
    [client, server].map((pod) =>
      AgentProcess.start(pod, {
        args: files.args(pod),
        environment: { TERMINATION_GRACE_PERIOD_SECONDS: '2' },
      }),
    ),
  );
  assert.ok(near && far);
  const echo = await (await server.process()).listen(8080, 'double');
  const socket = await (await client.process()).connect(server.address, 8080);
  socket.end('hello world');
  assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
  assert.deepEqual(echo.clients, [client.address]);
  const [outbound] = await near.awaitLines(1, (line) => line.direction === 'outbound');
  const [inbound] = await far.awaitLines(1, (line) => line.direction === 'inbound');
  assert.deepEqual([outbound?.path, outbound?.bytes_sent, outbound?.bytes_recv], ['hbone', 11, 22]);
  assert.deepEqual([inbound?.path, inbound?.bytes_sent, inbound?.bytes_recv], ['hbone', 22, 11]);
  assert.equal(near.metric('istio_tcp_received_bytes_total', 'reporter="source"', 'mutual_tls'), 11);
  assert.equal(far.metric('istio_tcp_sent_bytes_total', 'reporter="destination"', 'mutual_tls'), 22);
  const dump = JSON.parse(near.get(15000, '/config_dump'));
  assert.equal(dump.certificates[0].identity, 'spiffe://cluster.local/ns/default/sa/client');
  assert.equal(dump.certificates[0].state, 'Available');
  assert.deepEqual(await Promise.all([near.stop(), far.stop()]), [0, 0]);
  for (const pod of [client, server]) {
    assert.equal(pod.exec('nft', 'list', 'ruleset'), '');
    assert.doesNotMatch(pod.ip('rule show'), /fwmark/);
  }
});

test('a dedicated agent and a pod outside the mesh talk in plain text, both ways, and the record says so', async () => {
  await using network = TestNetwork.create();
  const inside = network.addNode().addPod('inside');
  const outside = network.addNode().addPod('outside');
  using files = new DedicatedFiles([inside]);
  const agent = await AgentProcess.start(inside, { args: files.args(inside) });
  for (const [from, to] of [
    [inside, outside],
    [outside, inside],
  ] as const) {
    const echo = await (await to.process()).listen(8080, 'double');
    const socket = await (await from.process()).connect(to.address, 8080);
    socket.end('hello world');
    assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
    assert.deepEqual(echo.clients, [from.address]);
  }
  const lines = await agent.awaitLines(2, (line) => line.path !== undefined);
  assert.deepEqual(
    lines.map((line) => [line.direction, line.path, line['src.identity'], line['dst.identity']]),
    [
      ['outbound', 'plaintext', undefined, undefined],
      ['inbound', 'plaintext', undefined, undefined],
    ],
  );
  assert.equal(await agent.stop(), 0);
});

test('an agent that is killed leaves its pod closed, and its successor opens it again', async () => {
  await using network = TestNetwork.create();
  const client = network.addNode().addPod('client');
  const server = network.addNode().addPod('server');
  using files = new DedicatedFiles([client, server]);
  const args = files.args(client);
  const environment = { NODE_NAME: 'node-of-client' };
  const first = await AgentProcess.start(client, { args, environment });
  await (await server.process()).listen(8080, 'double');
  const application = await client.process();
  await first.kill();
  assert.equal(await application.attempt(server.address, 8080), 'ECONNREFUSED');
  const second = await AgentProcess.start(client, { args, environment });
  // The registry says that the server has an agent; it has none, and nothing goes around that.
  assert.equal(await application.attempt(server.address, 8080), 'ECONNRESET');
  await second.awaitLines(1, (line) => line.reason === 'CONNECT_FAILED');
  assert.equal(await second.stop(), 0);
});

test('mistakes in the configuration end the agent with every mistake named', async () => {
  await using network = TestNetwork.create();
  const pod = network.addNode().addPod('client');
  const agent = AgentProcess.launch(pod, {
    args: ['--dedicated', 'no-slashes'],
    environment: { LOG_FORMAT: 'xml', SECRET_TTL: 'long' },
  });
  await new Promise((resolve) => agent.child.once('close', resolve));
  assert.equal(agent.child.exitCode, 1);
  const text = agent.log().join('\n');
  for (const name of ['LOG_FORMAT', 'SECRET_TTL', '--dedicated']) assert.ok(text.includes(name), text);
});

test('an agent without the capabilities it needs says which, and ends', async () => {
  await using network = TestNetwork.create();
  const pod = network.addNode().addPod('client');
  using files = new DedicatedFiles([pod]);
  const agent = AgentProcess.launch(pod, {
    args: files.args(pod),
    wrapper: ['setpriv', '--bounding-set=-net_admin,-net_raw,-sys_admin'],
  });
  await new Promise((resolve) => agent.child.once('close', resolve));
  assert.equal(agent.child.exitCode, 1);
  const text = agent.log().join('\n');
  for (const name of ['CAP_NET_ADMIN', 'CAP_SYS_ADMIN']) assert.ok(text.includes(name), text);
});
