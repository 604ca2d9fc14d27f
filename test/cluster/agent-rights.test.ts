/**
 * What the pods of the mesh may do: each capability of the agent is needed and what is missing without it is said; its root is
 * read-only; the seccomp profile that is shipped is enough and stricter than the default; the control plane needs nothing.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { bedObstacle } from '../support/cluster.ts';
import { ClusterMesh, MESH_NAMESPACE } from '../support/cluster-mesh.ts';
import { deployment, namespace, pod, service } from '../support/cluster-workloads.ts';
import { eventually } from '../support/eventually.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { ROOT } from '../support/source-files.ts';

/** Every capability of the DaemonSet, and what an agent says that does not have it. */
const NEEDED = [
  { capability: 'NET_ADMIN', says: /cannot mark packets and preserve source addresses/ },
  { capability: 'SYS_ADMIN', says: /cannot enter network namespaces of pods/ },
  { capability: 'SYS_PTRACE', says: /ambit-cni cannot be written: EACCES/ },
];
const CAPABILITIES = '/spec/template/spec/containers/0/securityContext/capabilities/add';
/** Bits of CapEff: NET_ADMIN 12, SYS_PTRACE 19, SYS_ADMIN 21. */
const CAPABILITY_BITS = (1n << 12n) | (1n << 19n) | (1n << 21n);
const SAID_WITHIN_MS = 60_000;
const REACHED_WITHIN_MS = 20_000;

describe('the rights of the pods of the mesh', { skip: bedObstacle() ?? false }, () => {
  let mesh: ClusterMesh;

  before(async () => {
    mesh = await ClusterMesh.open();
    await mesh.install();
    await mesh.bed.apply(
      namespace('shop', { 'istio.io/dataplane-mode': 'ambient' }),
      deployment({ name: 'web', namespace: 'shop', replicas: 2 }),
      service({ name: 'web', namespace: 'shop' }),
      pod({ name: 'client', namespace: 'shop' }),
    );
    await mesh.bed.waitForRollout('shop', 'deploy/web');
    await mesh.bed.waitFor('shop', 'pod/client', 'condition=Ready');
    await reached();
  });

  after(() => mesh[Symbol.asyncDispose]());

  test('agents have exactly the capabilities that are listed here, a read-only root and no way to more', async () => {
    assert.deepEqual(
      await capabilities(),
      NEEDED.map(({ capability }) => capability),
    );
    const { name } = await mesh.agentOf('node1');
    const status = await processStatus(name);
    assert.equal(BigInt(`0x${status.get('CapEff')}`), CAPABILITY_BITS);
    assert.equal(BigInt(`0x${status.get('CapBnd')}`), CAPABILITY_BITS);
    assert.deepEqual([status.get('NoNewPrivs'), status.get('Seccomp')], ['1', '2']);
    await assert.rejects(shell(name, 'echo x > /opt/ambit/x'), /Read-only file system/);
  });

  test('replicas of the control plane are nobody and have no capability', async () => {
    const [replica] = await mesh.bed.pods(MESH_NAMESPACE, 'app.kubernetes.io/name=ambit-control');
    const status = await processStatus(textAt(replica, 'metadata', 'name'));
    assert.match(status.get('Uid') ?? '', /^1337\b/);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      assert.match(status.get(set) ?? '', /^0+$/, set);
    assert.deepEqual([status.get('NoNewPrivs'), status.get('Seccomp')], ['1', '2']);
    await assert.rejects(shell(textAt(replica, 'metadata', 'name'), 'echo x > /opt/ambit/x'), /Read-only file system/);
  });

  for (const { capability, says } of NEEDED) {
    test(`without ${capability} an agent says what it cannot do, and the one before it goes on`, async () => {
      const former = new Set((await mesh.agents()).map(({ name }) => name));
      await setCapabilities(NEEDED.map((row) => row.capability).filter((one) => one !== capability));
      try {
        const said = await eventually(
          `an agent without ${capability} says so`,
          async () => {
            const young = (await mesh.agents()).filter(({ name }) => !former.has(name));
            const logs = await Promise.all(young.map(({ name }) => mesh.agentLog(name)));
            const index = logs.findIndex((log) => says.test(log));
            const found = young[index];
            assert.ok(found !== undefined, logs.join('\n'));
            return found.name;
          },
          SAID_WITHIN_MS,
        );
        const agent = (await mesh.agents()).find(({ name }) => name === said);
        assert.notEqual(agent?.ready, true, 'an agent that cannot do its work is not ready');
        await reached();
      } finally {
        await setCapabilities(NEEDED.map((row) => row.capability));
        await mesh.bed.waitForRollout(MESH_NAMESPACE, 'ds/ambit-agent');
      }
      await reached();
    });
  }

  test('the seccomp profile that is shipped is enough for everything an agent does, and stricter than the default', async () => {
    const lowerPriority = ['/usr/local/bin/node', '-e', 'os.setPriority(0, 5)'];
    const inAgent = async (command: readonly string[]): Promise<string> =>
      await mesh.bed.podExec(MESH_NAMESPACE, (await mesh.agentOf('node1')).name, command);
    await inAgent(lowerPriority);
    const profile = readFileSync(join(ROOT, 'daemonset', 'seccomp', 'agent.json'), 'utf8');
    const folder = '/var/lib/kubelet/seccomp/ambit';
    for (const node of await mesh.bed.nodes()) {
      await mesh.bed.nodeExec(node, ['mkdir', '-p', folder]);
      await mesh.bed.nodeExec(node, ['tee', `${folder}/agent.json`], { input: profile });
    }
    await mesh.install(
      'upgrade',
      'ambit-agent.seccompProfile.type=Localhost',
      'ambit-agent.seccompProfile.localhostProfile=ambit/agent.json',
    );
    await assert.rejects(inAgent(lowerPriority), /EPERM/);
    await mesh.bed.kubectl(['rollout', 'restart', '-n', 'shop', 'deploy/web']);
    await mesh.bed.waitForRollout('shop', 'deploy/web');
    await mesh.label('shop', undefined);
    await mesh.label('shop', 'ambient');
    await reached();
    for (const { name, restarts } of await mesh.agents()) {
      assert.equal(restarts, 0, name);
      const lines = (await mesh.agentLog(name)).split('\n');
      assert.deepEqual(
        lines.filter((line) => /EPERM|ENOSYS|not permitted|"level":"fatal"/.test(line)),
        [],
        name,
      );
    }
  });

  /** Both pods answer the client, over both ways. */
  async function reached(): Promise<void> {
    const pods = await mesh.bed.pods('shop', 'app=web');
    const addresses = pods
      .filter((one) => valueAt(one, 'metadata', 'deletionTimestamp') === undefined)
      .map((one) => `http://${textAt(one, 'status', 'podIP')}:8080/`);
    for (const url of [...addresses, 'http://web/']) {
      const call = () => mesh.bed.podExec('shop', 'client', ['curl', '-sfm5', url]);
      await eventually(`${url} answers`, call, REACHED_WITHIN_MS).catch(async (error: unknown) => {
        throw new Error(`${url} is not reached\n${await agentsInWords()}`, { cause: error });
      });
    }
  }

  /** What they said last. */
  async function agentsInWords(): Promise<string> {
    const texts = (await mesh.agents()).map(async (agent) => {
      const log = await mesh.agentLog(agent.name).catch(String);
      return `${JSON.stringify(agent)}\n${log.split('\n').slice(-16).join('\n')}`;
    });
    return (await Promise.all(texts)).join('\n');
  }

  async function capabilities(): Promise<string[]> {
    const path = 'jsonpath={.spec.template.spec.containers[0].securityContext.capabilities.add[*]}';
    return (await mesh.bed.kubectl(['get', '-n', MESH_NAMESPACE, 'ds', 'ambit-agent', '-o', path])).split(' ').sort();
  }

  async function setCapabilities(list: readonly string[]): Promise<void> {
    const patch = JSON.stringify([{ op: 'replace', path: CAPABILITIES, value: list }]);
    await mesh.bed.kubectl(['patch', '-n', MESH_NAMESPACE, 'ds', 'ambit-agent', '--type=json', '-p', patch]);
  }

  async function shell(name: string, script: string): Promise<string> {
    return await mesh.bed.podExec(MESH_NAMESPACE, name, ['/bin/sh', '-c', script]);
  }

  /** Of the first process of the pod. */
  async function processStatus(name: string): Promise<ReadonlyMap<string, string>> {
    const script = 'while read -r line; do echo "$line"; done < /proc/1/status';
    const lines = (await shell(name, script)).split('\n').map((line) => line.split(':'));
    return new Map(lines.map(([key = '', value = '']) => [key, value.trim()]));
  }
});
