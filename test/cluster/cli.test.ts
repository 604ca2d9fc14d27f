/**
 * The commands an operator asks a cluster with: check and status before and after an installation and with things broken on
 * purpose, why, connections, the connectivity test with a look at the wire, and a sysdump that is searched for secrets.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isRecord } from '../../core/decoder.ts';
import { ambit, type CommandResult } from '../support/ambit-command.ts';
import { type Bed, bedObstacle } from '../support/cluster.ts';
import { ClusterMesh, MESH_NAMESPACE } from '../support/cluster-mesh.ts';
import { APP_IMAGE, namespace, pod, service } from '../support/cluster-workloads.ts';
import { eventually } from '../support/eventually.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { WireCapture } from '../support/wire-capture.ts';

const SHOP = 'cli-shop';
/** Seconds on a quiet machine; each command starts a process that reads the whole command line. */
const LONG_MS = 180_000;
/** Of pod-program.ts: every line of a stream has it. */
const MARKER = 'ambit-connectivity-plaintext';
const HIDDEN = 'hunter2-of-the-shop';

/** Gateway API definitions are not part of the bed. */
const EXPECTED_TO_WARN: ReadonlySet<string> = new Set(['kubernetes.gateway-api']);

describe('the command line and a cluster', { skip: bedObstacle() ?? false }, () => {
  let mesh: ClusterMesh;
  let bed: Bed;

  const run = (...args: readonly string[]): Promise<CommandResult> => ambit(bed.kubeconfig, ...args);

  before(async () => {
    mesh = await ClusterMesh.open();
    bed = mesh.bed;
  });

  after(async () => {
    await bed.kubectl(['delete', 'namespace', SHOP, '--ignore-not-found', '--wait=false']);
    await mesh[Symbol.asyncDispose]();
  });

  /** What `ambit check` says, by id; its exit code has to fit. */
  async function check(): Promise<Map<string, readonly unknown[]>> {
    const { code, stdout } = await run('check', '-o', 'json');
    const results = listOf(stdout);
    const levels = results.map((one) => textAt(one, 'level'));
    assert.equal(code, levels.includes('failed') ? 2 : levels.some((level) => level !== 'ok') ? 1 : 0);
    return Map.groupBy(results, (one) => textAt(one, 'id'));
  }

  function textsOf(results: Map<string, readonly unknown[]>, id: string, level: string): string[] {
    return (results.get(id) ?? []).filter((one) => textAt(one, 'level') === level).map((one) => textAt(one, 'text'));
  }

  test('before an installation status and check say that there is none, and how to get one', async () => {
    const status = await run('status', '-o', 'json');
    assert.equal(status.code, 1);
    assert.ok(
      `${valueAt(JSON.parse(status.stdout), 'problems')}`.includes('no control plane is installed'),
      status.stdout,
    );
    const results = await check();
    assert.match(textsOf(results, 'control.ready', 'failed').join(), /no control plane in namespace istio-system/);
    assert.equal(textsOf(results, 'node.report', 'skipped').length, 1);
    assert.match((await run('connections')).stderr, /no agent runs in the namespace istio-system/);
    assert.match((await run('test', 'connectivity')).stderr, /no agent runs/);
  });

  test('status waits until the mesh and its pods are as they should be', { timeout: LONG_MS }, async () => {
    await mesh.install();
    await bed.apply(
      namespace(SHOP, { 'istio.io/dataplane-mode': 'ambient' }),
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'door', namespace: SHOP }, stringData: { key: HIDDEN } },
      pod({ name: 'near', namespace: SHOP, podSpec: { nodeName: 'node1' } }),
      pod({
        name: 'far',
        namespace: SHOP,
        podSpec: { nodeName: 'node2' },
        container: { image: APP_IMAGE, env: [{ name: 'DOOR', value: HIDDEN }] },
      }),
      service({ name: 'far', namespace: SHOP }),
    );
    await bed.waitFor(SHOP, 'pod/far', 'condition=Ready');
    const { code, stdout } = await run('status', '--wait', '--timeout', '60', '-o', 'json');
    const status: unknown = JSON.parse(stdout);
    assert.equal(code, 0, stdout);
    const agents = valueAt(status, 'agents');
    assert.ok(Array.isArray(agents));
    assert.deepEqual(
      agents.map((agent) => [textAt(agent, 'node'), valueAt(agent, 'captured'), valueAt(agent, 'inSync')]),
      [
        ['node1', 1, true],
        ['node2', 1, true],
      ],
    );
    assert.ok(agents.every((agent) => Number(valueAt(agent, 'memoryBytes')) > 0));
    assert.deepEqual(valueAt(status, 'namespaces'), [{ name: SHOP, pods: 2, captured: 2 }]);
    assert.match(textAt(status, 'control', 'leader'), /^ambit-control-/);
    assert.match((await run('status')).stdout, /√ all well\n$/);
  });

  test('a healthy mesh passes every check', { timeout: LONG_MS }, async () => {
    const results = await check();
    for (const [id, outcomes] of results) {
      if (EXPECTED_TO_WARN.has(id)) continue;
      for (const outcome of outcomes) assert.equal(textAt(outcome, 'level'), 'ok', JSON.stringify(outcome));
    }
    assert.match(textsOf(results, 'capture.live', 'ok').join(), /^2 of 2 captured pods redirect/);
    assert.match(textsOf(results, 'cni.chain.order', 'ok').join(), /^02-ambit.conflist: .* > ambit-cni$/);
    const one = await run('check', '--node', 'node2', '-o', 'json');
    assert.match(one.stdout, /1 of 1 captured pods redirect/);
  });

  test('why and connections are answered by the agent of the client', { timeout: LONG_MS }, async () => {
    const why = await run('why', `${SHOP}/near`, `${SHOP}/far:80`, '-o', 'json');
    assert.equal(why.code, 0, why.stderr);
    const report: unknown = JSON.parse(why.stdout);
    assert.deepEqual([textAt(report, 'verdict'), textAt(report, 'transport', 'path')], ['allowed', 'hbone']);
    assert.equal((await run('why', `${SHOP}/nobody`, `${SHOP}/far:80`)).code, 1);
    const connections = await run('connections', '-o', 'json');
    assert.deepEqual([connections.code, Array.isArray(JSON.parse(connections.stdout))], [0, true], connections.stderr);
  });

  test('a pod whose rules somebody removed is named by a live try', { timeout: LONG_MS }, async () => {
    const address = textAt(
      JSON.parse(await bed.kubectl(['get', 'pod', '-n', SHOP, 'near', '-o', 'json'])),
      'status',
      'podIP',
    );
    await bed.nodeExec('node1', ['sh', '-c', FLUSH, 'sh', address]);
    const found = textsOf(await check(), 'capture.live', 'failed');
    assert.equal(found.length, 1, found.join());
    assert.match(found[0] ?? '', /cli-shop\/near on node1 is not redirected/);
    await bed.kubectl(['delete', 'pod', '-n', SHOP, 'near', '--grace-period=1']);
  });

  test('a NetworkPolicy against tunnels is found, and its companion can be applied', { timeout: LONG_MS }, async () => {
    await bed.apply({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'only-8080', namespace: SHOP },
      spec: { podSelector: {}, policyTypes: ['Ingress'], ingress: [{ ports: [{ protocol: 'TCP', port: 8080 }] }] },
    });
    const [found] = (await check()).get('netpol.port15008') ?? [];
    assert.deepEqual([textAt(found, 'level'), textAt(found, 'code')], ['failed', 'AMB0203']);
    assert.equal(textAt(found, 'fix'), `ambit netpol companion ${SHOP}/only-8080 | kubectl apply -f -`);
    const companion = await run('netpol', 'companion', `${SHOP}/only-8080`);
    await bed.kubectl(['apply', '-f', '-'], { input: companion.stdout });
    assert.equal(textsOf(await check(), 'netpol.port15008', 'ok').length, 1);
    assert.equal((await run('netpol', 'companion', `${SHOP}/only-8080`)).code, 1);
  });

  test('connectivity passes, and nothing of it is readable between the nodes', {
    timeout: 2 * LONG_MS,
  }, async (context) => {
    await using capture = await WireCapture.start(bed, 'node1', MARKER);
    const { code, stdout, stderr } = await run('test', 'connectivity', '-o', 'json');
    assert.equal(code, 0, `${stdout}${stderr}`);
    const results = listOf(stdout);
    assert.ok(
      results.every((one) => textAt(one, 'level') === 'ok'),
      stdout,
    );
    assert.match(stdout, /tunnel with mutual TLS, as spiffe:\/\/cluster.local\/ns\/ambit-test-[0-9a-f]+\/sa\/client/);
    assert.match(stderr, /namespace ambit-test-[0-9a-f]+ is removed/);
    // What it holds back is looked at before it ends.
    await capture[Symbol.asyncDispose]();
    context.diagnostic(JSON.stringify({ wire: capture.seen, ms: results.map((one) => valueAt(one, 'ms')) }));
    assert.ok(capture.seen.bytes > 10_000);
    assert.equal(capture.seen.sightings, 0);
    assert.doesNotMatch(await bed.kubectl(['get', 'namespaces', '-o', 'name']), /ambit-test-/);
  });

  test('open connections outlive a restart of the control plane, counted by --disrupt', {
    timeout: 2 * LONG_MS,
  }, async (context) => {
    const counting = run(
      'test',
      'connectivity',
      '--disrupt',
      '--duration',
      '12',
      '--test-namespace',
      'cli-disrupt',
      '-o',
      'json',
    );
    await eventually(
      'the load runs',
      async () => {
        const client = await bed.kubectl([
          'get',
          'pods',
          '-n',
          'cli-disrupt',
          'client',
          '-o',
          'jsonpath={.status.phase}',
        ]);
        assert.equal(client, 'Running');
      },
      LONG_MS,
    );
    await bed.kubectl(['rollout', 'restart', '-n', MESH_NAMESPACE, 'deploy/ambit-control']);
    const { code, stdout, stderr } = await counting;
    const report: unknown = JSON.parse(stdout);
    context.diagnostic(JSON.stringify(report));
    assert.ok(isRecord(report));
    assert.deepEqual([code, report.failures, report.breaks, report.streams], [0, 0, 0, 2], `${stdout}${stderr}`);
    assert.ok(Number(report.requests) > 50, stdout);
  });

  test('connectivity leaves a namespace of somebody else alone', { timeout: LONG_MS }, async () => {
    const { code, stderr } = await run('test', 'connectivity', '--test-namespace', SHOP);
    assert.deepEqual([code, stderr.includes(`namespace ${SHOP} is not of this test`)], [1, true], stderr);
    await bed.kubectl(['get', 'pod', '-n', SHOP, 'far']);
  });

  test('a sysdump has everything that support asks for, and no key, token or secret', {
    timeout: LONG_MS,
  }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ambit-sysdump-'));
    try {
      const { code, stdout, stderr } = await run('sysdump', '--file', join(folder, 'dump'), '-o', 'json');
      assert.equal(code, 0, stderr);
      assert.deepEqual(valueAt(JSON.parse(stdout), 'missing'), []);
      const files = readdirSync(join(folder, 'dump'), { recursive: true, withFileTypes: true }).filter((one) =>
        one.isFile(),
      );
      const names = files.map((one) => join(one.parentPath, one.name).slice(folder.length + '/dump/'.length));
      const agent = names.find((name) => name.startsWith('agents/node1-'))?.split('/')[1];
      const wanted = [
        'version.json',
        'status.json',
        'checks.json',
        'proxy-status.json',
        'events.json',
        'objects/pods.json',
      ];
      const ofAgent = ['log.txt', 'node.json', 'config_dump.json', 'connections.json', 'metrics.txt'];
      for (const name of [...wanted, ...ofAgent.map((file) => `agents/${agent}/${file}`)])
        assert.ok(names.includes(name), `${name} is missing in ${names.join(', ')}`);
      for (const name of names) {
        const text = readFileSync(join(folder, 'dump', name), 'utf8');
        for (const secret of [
          /PRIVATE KEY/,
          /LS0tLS1CRUdJTi(BQUklW|BFQyBQ|BSU0Eg)/,
          /\beyJ[\w-]{8,}\.[\w-]{8,}\./,
          new RegExp(HIDDEN),
        ])
          assert.doesNotMatch(text, secret, name);
      }
      assert.match(readFileSync(join(folder, 'dump', `agents/${agent}/log.txt`), 'utf8'), /the agent runs/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

/** Removes the table of the mesh in the namespace of the pod with this address. */
const FLUSH = `
for netns in /var/run/netns/*; do
  nsenter --net="$netns" ip -4 -o addr show | grep -q " $1/" || continue
  nsenter --net="$netns" nft flush ruleset
  exit 0
done
exit 1
`;

function listOf(json: string): readonly unknown[] {
  const value: unknown = JSON.parse(json);
  assert.ok(Array.isArray(value), json);
  return value;
}
