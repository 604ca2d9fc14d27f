/**
 * The built plugin as a runtime meets it: behind the reference plugins in a chain, before a real CNI server, for every
 * version it claims; and alone with an agent that is absent, silent or refuses.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { CniServer } from '../../agent/enrol/cni-server.ts';
import { buildPlugin } from '../../cni-plugin/build.ts';
import { decodeAnswer } from '../../core/enrolment/cni-wire.ts';
import { type CniOutcome, callCni, referencePlugins } from '../support/cni-caller.ts';
import { EnrolmentWorld, pictureOf } from '../support/enrolment.ts';
import { TestPod } from '../support/netns.ts';

const LINKED_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0'];
let plugin = '';

before(async () => {
  plugin = (await buildPlugin()).path;
});

/** A node with a CNI chain; a pod is a bare namespace until the chain has run. */
class CniWorld implements AsyncDisposable {
  readonly world: EnrolmentWorld;
  readonly server: CniServer | undefined;
  notReady: string | undefined;

  private constructor(world: EnrolmentWorld, server: CniServer | undefined) {
    this.world = world;
    this.server = server;
  }

  static async create(withAgent = true): Promise<CniWorld> {
    const world = await EnrolmentWorld.create();
    if (!withAgent) return new CniWorld(world, undefined);
    const notReady = (): string | undefined => made.notReady;
    const { enrolment } = await world.open({ podWaitMs: 300, notReady });
    const server = await CniServer.open({ runDirectory: world.runDirectory, enrolment, notReady });
    const made = new CniWorld(world, server);
    return made;
  }

  /** A namespace as a runtime makes it: loopback up, nothing else. */
  emptyPod(label: string): TestPod {
    const pod = new TestPod(`${this.world.node.name}-${label}`, label, this.world.node, '');
    this.world.node.pods.push(pod);
    this.world.directory.put(label);
    return pod;
  }

  config(cniVersion: string, changes: object = {}): Record<string, unknown> {
    const { runDirectory } = this.world;
    return {
      cniVersion,
      name: 'test',
      type: 'ambit-cni',
      runDir: runDirectory,
      agentWaitMs: 100,
      timeoutMs: 2_000,
      ...changes,
    };
  }

  ours(command: string, pod: TestPod | undefined, config: unknown, args = ''): Promise<CniOutcome> {
    return callCni(this.world.node, { command, plugin, config, environment: environmentOf(pod, args) });
  }

  /** The first plugin of the chain: a bridge with addresses from host-local. */
  bridge(command: string, pod: TestPod, cniVersion: string, prevResult?: unknown): Promise<CniOutcome> {
    const config = {
      cniVersion,
      name: 'test',
      type: 'bridge',
      bridge: 'cni0',
      ipam: {
        type: 'host-local',
        dataDir: join(this.world.runDirectory, 'ipam'),
        ranges: [[{ subnet: '10.200.0.0/24' }], [{ subnet: 'fd20::/64' }]],
        routes: [{ dst: '0.0.0.0/0' }],
      },
      ...(prevResult === undefined ? {} : { prevResult }),
    };
    const path = join(referencePlugins(), 'bridge');
    return callCni(this.world.node, { command, plugin: path, config, environment: environmentOf(pod, '') });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server?.close();
    await this.world[Symbol.asyncDispose]();
  }
}

function environmentOf(pod: TestPod | undefined, args: string): Record<string, string> {
  if (pod === undefined) return {};
  return {
    CNI_CONTAINERID: `sandbox-${pod.label}`,
    CNI_NETNS: pod.path,
    CNI_IFNAME: 'eth0',
    CNI_ARGS: args || `IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=${pod.label};K8S_POD_UID=uid-${pod.label}`,
  };
}

describe('the plugin behind the reference plugins', () => {
  for (const version of LINKED_VERSIONS) {
    it(`captures and releases a pod and passes the result on, CNI ${version}`, async () => {
      await using cni = await CniWorld.create();
      const pod = cni.emptyPod('web');
      const first = await cni.bridge('ADD', pod, version);
      assert.equal(first.status, 0, first.stderr || JSON.stringify(first.output));
      const untouched = pictureOf(pod);
      const config = cni.config(version, { prevResult: first.output });
      const added = await cni.ours('ADD', pod, config);
      assert.equal(added.status, 0, JSON.stringify(added.output));
      assert.deepEqual(added.output, first.output, 'the result passes unchanged');
      assert.match(pictureOf(pod), /table inet ambit/);
      if (version >= '0.4.0') {
        const checked = await cni.ours('CHECK', pod, config);
        assert.deepEqual([checked.status, checked.output], [0, undefined], JSON.stringify(checked.output));
        assert.equal(
          (await cni.bridge('CHECK', pod, version, first.output)).status,
          0,
          'the bridge is content as well',
        );
        pod.nft('flush chain inet ambit capture-leaving');
        const drifted = await cni.ours('CHECK', pod, config);
        assert.equal(drifted.status, 1);
        assert.equal(drifted.output?.code, 101);
        assert.match(String(drifted.output?.msg), /capture-leaving out is missing/);
      }
      assert.equal((await cni.ours('DEL', pod, config)).status, 0);
      assert.equal(pictureOf(pod), untouched);
      assert.equal((await cni.ours('DEL', pod, config)).status, 0, 'DEL may be repeated');
      assert.equal((await cni.bridge('DEL', pod, version, first.output)).status, 0);
    });
  }

  it('converts a result of another version to the version of the configuration', async () => {
    await using cni = await CniWorld.create();
    const pod = cni.emptyPod('web');
    const first = await cni.bridge('ADD', pod, '0.4.0');
    const added = await cni.ours('ADD', pod, cni.config('1.1.0', { prevResult: first.output }));
    assert.equal(added.status, 0, JSON.stringify(added.output));
    assert.equal(added.output?.cniVersion, '1.1.0');
    assert.ok(!JSON.stringify(added.output?.ips).includes('version'));
  });

  it('passes pods that are not eligible without touching them', async () => {
    await using cni = await CniWorld.create();
    const pod = cni.emptyPod('web');
    cni.world.directory.put('web', { labels: { 'istio.io/dataplane-mode': 'none' } });
    const first = await cni.bridge('ADD', pod, '1.0.0');
    const untouched = pictureOf(pod);
    const config = cni.config('1.0.0', { prevResult: first.output });
    const added = await cni.ours('ADD', pod, config);
    assert.deepEqual([added.status, added.output], [0, first.output]);
    assert.equal((await cni.ours('CHECK', pod, config)).status, 0);
    assert.equal(pictureOf(pod), untouched);
  });

  it('fails with the reason when the agent cannot capture the pod, and leaves nothing behind', async () => {
    await using cni = await CniWorld.create();
    const pod = cni.emptyPod('web');
    const first = await cni.bridge('ADD', pod, '1.0.0');
    const prevResult = { ...first.output, ips: [{ address: '10.200.0.99/24' }] };
    const untouched = pictureOf(pod);
    const added = await cni.ours('ADD', pod, cni.config('1.0.0', { prevResult }));
    assert.equal(added.status, 1);
    assert.equal(added.output?.code, 100);
    assert.match(String(added.output?.msg), /none of the pod's addresses \(10\.200\.0\.99\)/);
    assert.equal(pictureOf(pod), untouched);
  });

  it('asks to try again for a pod the agent does not know yet', async () => {
    await using cni = await CniWorld.create();
    const pod = cni.emptyPod('web');
    cni.world.directory.clear();
    const first = await cni.bridge('ADD', pod, '1.0.0');
    const added = await cni.ours('ADD', pod, cni.config('1.0.0', { prevResult: first.output }));
    assert.deepEqual([added.status, added.output?.code], [1, 11]);
    assert.match(String(added.output?.msg), /pod demo\/web is not known here/);
  });

  it('collects what is no longer valid', async () => {
    await using cni = await CniWorld.create();
    const pod = cni.emptyPod('web');
    const first = await cni.bridge('ADD', pod, '1.0.0');
    const untouched = pictureOf(pod);
    const config = cni.config('1.1.0', { prevResult: first.output });
    await cni.ours('ADD', pod, config);
    const valid = { 'cni.dev/valid-attachments': [{ containerID: 'sandbox-web', ifname: 'eth0' }] };
    assert.equal((await cni.ours('GC', undefined, { ...config, ...valid })).status, 0);
    assert.notEqual(pictureOf(pod), untouched);
    assert.equal((await cni.ours('GC', undefined, { ...config, 'cni.dev/valid-attachments': [] })).status, 0);
    assert.equal(pictureOf(pod), untouched);
  });
});

describe('the plugin without an agent', () => {
  const prevResult = { cniVersion: '1.0.0', ips: [{ address: '10.200.0.9/24' }] };

  it('makes pods wait, and says what for', async () => {
    await using cni = await CniWorld.create(false);
    const pod = cni.emptyPod('web');
    const added = await cni.ours('ADD', pod, cni.config('1.0.0', { prevResult }));
    assert.equal(added.status, 1);
    assert.deepEqual([added.output?.cniVersion, added.output?.code], ['1.0.0', 11]);
    assert.match(String(added.output?.msg), /agent does not listen on .*pluginevent\.sock/);
    assert.equal((await cni.ours('CHECK', pod, cni.config('1.0.0', { prevResult }))).output?.code, 11);
  });

  it('lets pods of excluded namespaces, the own pod of the agent and other runtimes pass', async () => {
    await using cni = await CniWorld.create(false);
    const pod = cni.emptyPod('web');
    const config = cni.config('1.0.0', { prevResult });
    for (const args of [
      'K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns',
      'K8S_POD_NAMESPACE=ambit-system;K8S_POD_NAME=ambit-agent-x7',
      'IgnoreUnknown=1',
    ]) {
      const added = await cni.ours('ADD', pod, config, args);
      assert.deepEqual([added.status, added.output], [0, prevResult], args);
    }
    const impostor = await cni.ours('ADD', pod, config, 'K8S_POD_NAMESPACE=demo;K8S_POD_NAME=ambit-agent-x7');
    assert.equal(impostor.output?.code, 11, 'the name alone opens nothing');
  });

  it('never holds up the removal of a pod', async () => {
    await using cni = await CniWorld.create(false);
    const pod = cni.emptyPod('web');
    const deleted = await cni.ours('DEL', pod, cni.config('1.0.0'));
    assert.equal(deleted.status, 0);
    assert.match(deleted.stderr, /does not listen/);
    await using silent = await silentAgent(cni.world.runDirectory);
    const late = await cni.ours('DEL', pod, cni.config('1.0.0', { timeoutMs: 300 }));
    assert.equal(late.status, 0, 'an agent that does not answer is no reason either');
    assert.ok(late.durationMs < 3_000, `took ${late.durationMs} ms`);
    assert.equal(silent.connections, 1);
  });

  it('gives up on an agent that does not answer', async () => {
    await using cni = await CniWorld.create(false);
    await using _ = await silentAgent(cni.world.runDirectory);
    const pod = cni.emptyPod('web');
    const added = await cni.ours('ADD', pod, cni.config('1.0.0', { prevResult, timeoutMs: 300 }));
    assert.deepEqual([added.status, added.output?.code], [1, 11]);
    assert.match(String(added.output?.msg), /no answer within/);
  });

  it('waits for an agent that is just starting', async () => {
    await using cni = await CniWorld.create(false);
    const { runDirectory } = cni.world;
    const pod = cni.emptyPod('web');
    const first = await cni.bridge('ADD', pod, '1.0.0');
    const adding = cni.ours(
      'ADD',
      pod,
      cni.config('1.0.0', { prevResult: first.output, agentWaitMs: 5_000, timeoutMs: 10_000 }),
    );
    const { enrolment } = await cni.world.open();
    const server = await CniServer.open({ runDirectory, enrolment, notReady: () => undefined });
    assert.equal((await adding).status, 0);
    await server.close();
  });

  it('is always ready in STATUS, or a runtime would start no pod, the agent’s own neither; what is missing is said', async () => {
    await using cni = await CniWorld.create();
    const status = () => cni.ours('STATUS', undefined, cni.config('1.1.0'));
    const says = async (what: RegExp): Promise<void> => {
      const told = await status();
      assert.deepEqual([told.status, told.output], [0, undefined]);
      assert.match(told.stderr, what);
    };
    await says(/^$/);
    cni.notReady = 'workers are starting';
    await says(/workers are starting; new pods of the mesh wait/);
    await cni.server?.close();
    await says(/does not listen.*; new pods of the mesh wait/);
    mkdirSync(join(cni.world.runDirectory, 'pods'), { recursive: true });
    writeFileSync(join(cni.world.runDirectory, 'pods', 'uid.json'), '{}');
    await says(/1 captured pods may be cut off/);
  });
});

describe('an agent that is not ready', () => {
  it('lets pods outside the mesh start, and has those of the mesh wait', async () => {
    await using cni = await CniWorld.create();
    cni.notReady = 'state manager';
    const [inside, beside] = [cni.emptyPod('inside'), cni.emptyPod('beside')];
    cni.world.directory.put('beside', { labels: { 'istio.io/dataplane-mode': 'none' } });
    const { output: prevResult } = await cni.bridge('ADD', inside, '1.0.0');
    const waits = await cni.ours('ADD', inside, cni.config('1.0.0', { prevResult }));
    assert.deepEqual([waits.status, waits.output?.code], [1, 11]);
    assert.match(String(waits.output?.msg), /not ready: state manager/);
    const { output: own } = await cni.bridge('ADD', beside, '1.0.0');
    const started = await cni.ours('ADD', beside, cni.config('1.0.0', { prevResult: own }));
    assert.deepEqual([started.status, started.output], [0, own]);
    assert.equal((await cni.ours('DEL', inside, cni.config('1.0.0'))).status, 0);
    cni.notReady = undefined;
    assert.equal((await cni.ours('ADD', inside, cni.config('1.0.0', { prevResult }))).status, 0);
  });
});

describe('a plugin and an agent of different versions', () => {
  it('tolerate what they do not know, and an unknown call gets an answer that says to try again', async () => {
    await using cni = await CniWorld.create();
    const { path } = cni.server ?? {};
    assert.ok(path !== undefined);
    const known = { attachment: { containerId: 'c1', ifName: 'eth0', zone: 'a' }, pod: null, colour: 'green' };
    const deleted = decodeAnswer(JSON.parse(await post(path, '/v1/del', JSON.stringify(known))));
    assert.equal(deleted.kind, 'ignored');
    const unknown = decodeAnswer(JSON.parse(await post(path, '/v1/adopt', '{}')));
    assert.ok(unknown.kind === 'failed' && unknown.retry, JSON.stringify(unknown));
    assert.match(unknown.detail, /does not know the call \/v1\/adopt/);
    const newer = decodeAnswer({ kind: 'done', detail: 'captured', since: 'a moment ago' });
    assert.deepEqual(newer, { kind: 'done', detail: 'captured' });
  });
});

async function post(socketPath: string, path: string, body: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const call = request({ socketPath, path, method: 'POST' }, (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    response.on('end', () => resolve(text));
  });
  call.on('error', reject).end(body);
  return await promise;
}

describe('wrong calls', () => {
  const cases: readonly { name: string; command: string; config: unknown; code: number; withPod?: false }[] = [
    { name: 'a version we do not speak', command: 'ADD', config: { cniVersion: '0.2.0' }, code: 1 },
    { name: 'no version', command: 'ADD', config: {}, code: 1 },
    { name: 'CHECK before it existed', command: 'CHECK', config: { cniVersion: '0.3.1' }, code: 1 },
    { name: 'STATUS before it existed', command: 'STATUS', config: { cniVersion: '1.0.0' }, code: 1 },
    { name: 'an unknown command', command: 'UPDATE', config: { cniVersion: '1.0.0' }, code: 4 },
    { name: 'no container', command: 'ADD', config: { cniVersion: '1.0.0' }, code: 4, withPod: false },
    { name: 'no JSON', command: 'ADD', config: 'name: yaml', code: 6 },
    { name: 'no previous result', command: 'ADD', config: { cniVersion: '1.0.0' }, code: 7 },
    { name: 'GC without attachments', command: 'GC', config: { cniVersion: '1.1.0' }, code: 7 },
    { name: 'a relative run directory', command: 'STATUS', config: { cniVersion: '1.1.0', runDir: 'run' }, code: 7 },
    { name: 'a list that is none', command: 'ADD', config: { cniVersion: '1.0.0', prevResult: { ips: 7 } }, code: 6 },
  ];
  it('end in an error object with the code of the specification', async () => {
    await using cni = await CniWorld.create(false);
    const pod = cni.emptyPod('web');
    for (const { name, command, config, code, withPod } of cases) {
      const outcome = await cni.ours(command, withPod === false ? undefined : pod, config);
      assert.deepEqual([outcome.status, outcome.output?.code], [1, code], `${name}: ${JSON.stringify(outcome.output)}`);
      assert.ok(typeof outcome.output?.cniVersion === 'string' && typeof outcome.output.msg === 'string', name);
    }
  });

  it('VERSION names what is supported', async () => {
    await using cni = await CniWorld.create(false);
    const { status, output } = await cni.ours('VERSION', undefined, { cniVersion: '1.1.0' });
    assert.equal(status, 0);
    assert.deepEqual(output?.supportedVersions, ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']);
  });
});

describe('the socket of the agent', () => {
  it('is for root alone and lies in a folder only root writes to', async () => {
    await using cni = await CniWorld.create();
    const path = cni.server?.path ?? '';
    assert.equal(statSync(path).mode & 0o777, 0o600);
    execFileSync('chmod', ['755', cni.world.runDirectory]);
    assert.equal(await strangersView(path), 'refused');
    execFileSync('chmod', ['666', path]);
    assert.equal(await strangersView(path), 'cut', 'who gets past the mode is recognised by the kernel');
    assert.equal((await cni.ours('STATUS', undefined, cni.config('1.1.0'))).status, 0);
    execFileSync('chmod', ['777', cni.world.runDirectory]);
    const { enrolment } = await cni.world.open();
    const second = CniServer.open({ runDirectory: cni.world.runDirectory, enrolment, notReady: () => undefined });
    await assert.rejects(second, { code: 'CONFIGURATION' });
  });

  it('answers nonsense with an error and goes on serving', async () => {
    await using cni = await CniWorld.create();
    const path = cni.server?.path ?? '';
    const post = (call: string, body: string) => callAgentSocket(path, call, body);
    assert.match(await post('/v1/add', '{'), /"kind":"failed","code":"DECODE"/);
    assert.match(await post('/v1/add', '{"netns":"../../etc"}'), /"code":"DECODE"/);
    assert.match(await post('/v1/add', 'x'.repeat(2_000_000)), /larger than/);
    assert.match(await post('/v2/add', '{}'), /does not know the call/);
    assert.equal((await cni.ours('STATUS', undefined, cni.config('1.1.0'))).status, 0);
  });
});

/**
 * How a call to the agent ends for a process of another user: `refused` (no connection), `cut` (connected, then ended
 * without an answer) or `served`. By curl, because another user cannot run a Node.js that lies in root's home.
 */
async function strangersView(path: string): Promise<string> {
  const stranger = spawn('curl', ['--verbose', '--unix-socket', path, 'http://agent/v1/status'], {
    uid: 65534,
    gid: 65534,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let account = '';
  stranger.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    account += chunk;
  });
  const [code] = await once(stranger, 'close');
  if (code === 0) return 'served';
  return account.includes('Permission denied') ? 'refused' : 'cut';
}

function callAgentSocket(socketPath: string, path: string, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, method: 'POST' }, (response) => {
      response.setEncoding('utf8').on('data', (text: string) => resolve(text));
    });
    call.on('error', reject).end(body);
  });
}

/** Something that takes connections on the agent's socket and never answers. */
async function silentAgent(runDirectory: string): Promise<AsyncDisposable & { readonly connections: number }> {
  let connections = 0;
  const path = join(runDirectory, 'pluginevent.sock');
  rmSync(path, { force: true });
  const server = createServer((socket) => {
    connections++;
    socket.on('error', () => socket.destroy());
    socket.resume();
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    get connections() {
      return connections;
    },
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
