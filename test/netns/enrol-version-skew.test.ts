/** Plugin and agent of different versions: an answer or a question the other side does not know makes pods wait, and never lets them out. */
import assert from 'node:assert/strict';
import { createServer, request, type Server } from 'node:http';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { CniServer } from '../../agent/enrol/cni-server.ts';
import { buildPlugin } from '../../cni-plugin/build.ts';
import { decodeAnswer, parseJson } from '../../core/enrolment/cni-wire.ts';
import { type CniOutcome, callCni } from '../support/cni-caller.ts';
import { EnrolmentWorld, pictureOf, requestFor } from '../support/enrolment.ts';
import type { TestPod } from '../support/netns.ts';

const plugin = (await buildPlugin()).path;

/** An agent of another version: gives this answer to every call. */
async function agentThatSays(runDirectory: string, status: number, answer: string): Promise<AsyncDisposable> {
  const server: Server = createServer((incoming, response) => {
    incoming.resume().on('end', () => response.writeHead(status, { connection: 'close' }).end(answer));
  });
  await new Promise<void>((resolve) => server.listen(join(runDirectory, 'pluginevent.sock'), resolve));
  return { [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())) };
}

function call(world: EnrolmentWorld, command: string, pod: TestPod): Promise<CniOutcome> {
  const prevResult = { cniVersion: '1.0.0', ips: [{ address: `${pod.address}/24` }] };
  const { runDirectory } = world;
  const config = {
    cniVersion: '1.0.0',
    name: 'x',
    type: 'ambit-cni',
    runDir: runDirectory,
    agentWaitMs: 50,
    prevResult,
  };
  const environment = {
    CNI_CONTAINERID: `sandbox-${pod.label}`,
    CNI_NETNS: pod.path,
    CNI_IFNAME: 'eth0',
    CNI_ARGS: `K8S_POD_NAMESPACE=demo;K8S_POD_NAME=${pod.label}`,
  };
  return callCni(world.node, { command, plugin, config, environment });
}

function post(socketPath: string, path: string, body: unknown): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, method: 'POST' }, (response) => {
      response.setEncoding('utf8').on('data', (text: string) => resolve(text));
    });
    asked.on('error', reject).end(JSON.stringify(body));
  });
}

describe('a plugin', () => {
  for (const [name, status, answer] of [
    ['that answers with a kind of answer of its own', 200, '{"kind":"postponed","detail":"later"}'],
    ['that has no such call', 404, 'not found'],
    ['that answers with nothing', 200, ''],
    ['that says less than it must', 200, '{"kind":"failed"}'],
  ] as const) {
    it(`has pods wait before an agent ${name}, and lets them go`, async () => {
      await using world = await EnrolmentWorld.create();
      const pod = world.addPod('web');
      await using _ = await agentThatSays(world.runDirectory, status, answer);
      const added = await call(world, 'ADD', pod);
      assert.deepEqual([added.status, added.output?.code], [1, 11], JSON.stringify(added.output));
      assert.equal((await call(world, 'DEL', pod)).status, 0);
    });
  }

  it('takes what it understands of an agent that says more', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('web');
    await using _ = await agentThatSays(world.runDirectory, 200, '{"kind":"done","detail":"","since":7,"more":{}}');
    assert.equal((await call(world, 'ADD', pod)).status, 0);
  });
});

describe('an agent', () => {
  it('captures the pod of a plugin that says more, and has that of a call it does not know wait', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('web');
    const { enrolment } = await world.open();
    const server = await CniServer.open({
      runDirectory: world.runDirectory,
      enrolment,
      notReady: () => undefined,
    });
    try {
      const unknown = decodeAnswer(parseJson(await post(server.path, '/v9/add', requestFor(pod))));
      assert.equal(unknown.kind === 'failed' ? unknown.code : unknown.kind, 'AGENT_UNREACHABLE');
      const asked = { ...requestFor(pod), interfaces: ['eth0'], plugin: '9.9.9' };
      assert.equal(decodeAnswer(parseJson(await post(server.path, '/v1/add', asked))).kind, 'done');
      assert.match(pictureOf(pod), /table inet ambit/);
    } finally {
      await server.close();
    }
  });
});
