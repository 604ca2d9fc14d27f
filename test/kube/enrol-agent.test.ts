/**
 * The real agent, as it is built for production, against a real API server and a real control plane: pods of its node join
 * and leave the mesh while they talk to each other, and the agent stays small.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { buildAgent } from '../../agent/build.ts';
import { mintAgentToken } from '../../control/tokens.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { agentKubeconfig, grantAgents, isCaptured, KubeEnrolmentWorld, rulesOf } from '../support/kube-enrolment.ts';
import { endProcess, type TestPod } from '../support/netns.ts';
import { freePort } from '../support/own-processes.ts';
import { readBytes } from '../support/socket-exchange.ts';

const CONTROL_MAIN = fileURLToPath(new URL('../../control/main.ts', import.meta.url));
const MB = 1024;
const MAX_RESIDENT_KB = 90 * MB;
const MAX_OWN_KB = 60 * MB;

let api: KubeApi;
before(async () => {
  api = await openKubeApi({ crds: false });
  await grantAgents(api);
});
after(() => api[Symbol.asyncDispose]());

/** Agent and control plane of a world, both on loopback. */
class AgentAtWork implements AsyncDisposable {
  readonly world: KubeEnrolmentWorld;
  readonly #children: ChildProcess[] = [];
  readonly accessLog: string[] = [];
  readonly log: string[] = [];

  constructor(world: KubeEnrolmentWorld) {
    this.world = world;
  }

  async start(): Promise<void> {
    const { folder, nodeName, node } = this.world;
    const [control, ready, admin, metrics] = [await freePort(), await freePort(), await freePort(), await freePort()];
    const state = join(folder, 'state');
    mkdirSync(join(folder, 'mesh'), { recursive: true });
    this.#spawn(
      [CONTROL_MAIN, '--config-dir', join(folder, 'mesh'), '--state-dir', state, '--listen', `127.0.0.1:${control}`],
      {},
    );
    const account = { namespace: 'istio-system', serviceAccount: 'ambit-agent', node: nodeName };
    const token = await eventually(
      'the token key',
      () => mintAgentToken(join(state, 'token-key.pem'), account, 3_600_000),
      15_000,
    );
    writeFileSync(join(folder, 'token'), token, { mode: 0o600 });
    const agent = this.#spawn([await buildAgent()], {
      NODE_NAME: nodeName,
      AMBIT_RUN_DIR: join(folder, 'run'),
      AMBIT_POD_SOURCE: 'kubernetes',
      AMBIT_KUBECONFIG: agentKubeconfig(api, nodeName),
      AMBIT_HOST_NETNS: node.path,
      AMBIT_NETNS_DIRECTORIES: join(folder, 'netns'),
      AMBIT_WORKERS: '1',
      AMBIT_ADMIN_PORT: `${admin}`,
      AMBIT_METRICS_PORT: `${metrics}`,
      AMBIT_READINESS_PORT: `${ready}`,
      LOG_FORMAT: 'json',
      XDS_ADDRESS: `127.0.0.1:${control}`,
      XDS_ROOT_CA: join(state, 'root-cert.pem'),
      AUTH_TOKEN: join(folder, 'token'),
      TERMINATION_GRACE_PERIOD_SECONDS: '2',
    });
    collect(agent, 'stdout', this.accessLog);
    collect(agent, 'stderr', this.log);
    await eventually(
      'the agent is ready',
      async () => {
        assert.equal(agent.exitCode, null, this.log.join('\n'));
        assert.equal((await fetch(`http://127.0.0.1:${ready}/healthz/ready`)).status, 200);
      },
      60_000,
    );
  }

  get pid(): number {
    return this.#children.at(-1)?.pid ?? 0;
  }

  /** Tells the control plane of a pod, as its own source of pods would. */
  announce(pod: TestPod, namespace: string, name: string, captured: boolean): void {
    const { folder, nodeName } = this.world;
    const annotations = captured ? { 'ambient.istio.io/redirection': 'enabled' } : {};
    const object = {
      ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, uid: `uid-${name}`, annotations } },
      spec: { nodeName, serviceAccountName: 'default', containers: [] },
      status: { phase: 'Running', podIP: pod.address, conditions: [{ type: 'Ready', status: 'True' }] },
    };
    writeFileSync(join(folder, 'mesh', `${name}.yaml`), JSON.stringify(object));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children.reverse()) await endProcess(child, 8_000);
  }

  #spawn(args: readonly string[], environment: Readonly<Record<string, string>>): ChildProcess {
    const { PATH = '' } = process.env;
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH, ...environment } });
    child.stdout.resume();
    child.stderr.resume();
    this.#children.push(child);
    return child;
  }
}

it('pods join and leave the mesh under load: no connection is cut, none is refused', { timeout: 240_000 }, async () => {
  await using world = await KubeEnrolmentWorld.create(api);
  const [client, server] = [await world.addPod(world.plain, 'client'), await world.addPod(world.plain, 'server')];
  await using agent = new AgentAtWork(world);
  await agent.start();
  for (const [pod, name] of [
    [client, 'client'],
    [server, 'server'],
  ] as const)
    agent.announce(pod, world.plain, name, true);
  const listening = await (await server.process()).listen(8080, 'echo');

  const plain = await (await client.process()).connect(server.address, 8080);
  await using load = new Load(client, server.address);
  await world.enterMesh(world.plain);
  await eventually(
    'both are captured',
    async () => {
      for (const name of ['client', 'server']) assert.match(await world.statusOf(world.plain, name), /^enabled; True/);
    },
    30_000,
  );
  await load.some();
  const captured = await (await client.process()).connect(server.address, 8080);
  for (const socket of [plain, captured]) await echoes(socket, 'in the mesh');
  await eventually('connections are carried by the agent', () => assert.match(agent.accessLog.join(), /same-node/));

  await world.leaveMesh(world.plain);
  await eventually(
    'both have left',
    async () => {
      for (const name of ['client', 'server']) assert.equal(await world.statusOf(world.plain, name), 'none; none');
    },
    30_000,
  );
  await load.some();
  for (const socket of [plain, captured]) await echoes(socket, 'after it left');
  assert.ok(!isCaptured(client) && !isCaptured(server));
  assert.deepEqual(load.failures, []);
  assert.ok(listening.clients.length > 20);
  for (const socket of [plain, captured]) socket.destroy();
  await load[Symbol.asyncDispose]();
  await eventually('nothing of ours is left', () => assert.equal(rulesOf(client) + rulesOf(server), ''), 20_000);
});

it('the agent with its copy of the pods and of many namespaces stays within its memory', {
  timeout: 120_000,
}, async () => {
  await using world = await KubeEnrolmentWorld.create(api);
  for (let index = 0; index < 100; index++) await api.namespace(`${world.plain}-many-${index}`, { team: `t${index}` });
  await using agent = new AgentAtWork(world);
  await agent.start();
  for (const name of ['a', 'b']) agent.announce(await world.addPod(world.meshed, name), world.meshed, name, true);
  await eventually(
    'captured',
    async () => {
      for (const name of ['a', 'b']) assert.match(await world.statusOf(world.meshed, name), /^enabled; True/);
    },
    30_000,
  );
  await eventually(
    'the memory of the agent',
    () => {
      const [own, resident] = [kilobytes(agent.pid, 'RssAnon'), kilobytes(agent.pid, 'VmRSS')];
      assert.ok(own < MAX_OWN_KB && resident < MAX_RESIDENT_KB, `${own} kB of its own, ${resident} kB resident`);
      process.stdout.write(`# agent: ${own} kB of its own, ${resident} kB resident\n`);
    },
    30_000,
  );
});

/** Opens a connection every few milliseconds, uses it once, and keeps what failed. */
class Load implements AsyncDisposable {
  readonly failures: string[] = [];
  #done = 0;
  #stopped = false;
  readonly #running: Promise<void>;

  constructor(client: TestPod, host: string) {
    this.#running = this.#run(client, host);
  }

  /** Resolves after some more connections. */
  async some(): Promise<void> {
    const wanted = this.#done + 20;
    await eventually('some connections', () => assert.ok(this.#done >= wanted), 20_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #run(client: TestPod, host: string): Promise<void> {
    const process = await client.process();
    while (!this.#stopped) {
      try {
        const socket = await process.connect(host, 8080);
        await echoes(socket, 'load');
        socket.destroy();
      } catch (error) {
        this.failures.push(`${this.#done}: ${error instanceof Error ? error.message : String(error)}`);
      }
      this.#done++;
    }
  }
}

async function echoes(socket: Socket, text: string): Promise<void> {
  socket.write(text);
  assert.equal((await readBytes(socket, text.length)).toString(), text);
}

function collect(child: ChildProcess, stream: 'stdout' | 'stderr', lines: string[]): void {
  child[stream]?.setEncoding('utf8').on('data', (text: string) => lines.push(text));
}

function kilobytes(pid: number, field: string): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  assert.ok(match, `no ${field}`);
  return Number(match[1]);
}
