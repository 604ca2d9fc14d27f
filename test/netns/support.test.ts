import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { TestNetwork } from '../support/netns.ts';

test('two pods on two nodes talk, and the network leaves nothing behind', async () => {
  const paths: string[] = [];
  {
    await using network = TestNetwork.create();
    const client = network.addNode().addPod('client');
    const server = network.addNode().addPod('server');
    paths.push(client.path, server.path, network.switch.path);
    const listening = await (await server.process()).listen(8080, 'hand-over');
    const near = await (await client.process()).connect(server.address, 8080);
    const far = await listening.nextSocket();
    near.end('hello');
    const [bytes] = await once(far, 'data');
    assert.equal(String(bytes), 'hello');
    await once(far, 'end');
    far.end('bye');
    const [answer] = await once(near, 'data');
    assert.equal(String(answer), 'bye');
    assert.deepEqual(listening.clients, [client.address]);
  }
  for (const path of paths) assert.equal(existsSync(path), false, path);
});
