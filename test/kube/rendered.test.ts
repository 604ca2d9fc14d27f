/** The plain manifests in daemonset/rendered: what helm makes of the charts, taken by a real API server, once and again. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isMap, parseAllDocuments } from 'yaml';
import { readConfig } from '../../agent/config.ts';
import { caBundlePatch } from '../../control/webhook/configuration.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { RENDERED, RENDERED_NAMESPACE, render, renderedNames } from '../../scripts/render-charts.ts';
import { run } from '../support/cluster.ts';
import { clusterBinary, missingBinaries } from '../support/cluster-binaries.ts';
import { environmentOf, objectOfKind, renderChart } from '../support/control-chart.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { ROOT } from '../support/source-files.ts';

const skip = missingBinaries(['helm']).length > 0 ? `needs ${clusterBinary('helm')}` : false;
/** A definition that the charts do not bring. */
const FOREIGN = 'PodMonitor';

function objectsOf(name: string): unknown[] {
  const text = readFileSync(join(ROOT, RENDERED, `${name}.yaml`), 'utf8');
  return parseAllDocuments(text).flatMap((document): unknown[] => {
    assert.deepEqual(document.errors, [], name);
    return isMap(document.contents) ? [document.toJS()] : [];
  });
}

describe('the rendered manifests', { skip }, () => {
  for (const name of renderedNames()) {
    test(`${name} is what helm makes of the charts, and helm says nothing beside it`, () => {
      const { text, complaints } = render(name, clusterBinary('helm'));
      assert.equal(complaints, '');
      const found = readFileSync(join(ROOT, RENDERED, `${name}.yaml`), 'utf8');
      assert.equal(found, text, `${RENDERED}/${name}.yaml is old: run scripts/render-charts.ts`);
    });

    test(`${name} has agents that understand their environment, and no object twice`, () => {
      const objects = objectsOf(name);
      const environment = Object.fromEntries(environmentOf(objects, 'DaemonSet'));
      assert.equal(readConfig({ ...environment, NODE_NAME: 'n' }, {}).podSource, 'kubernetes');
      const keys = objects.map((object) =>
        ['kind', 'namespace', 'name']
          .map((key) => textAt(object, ...(key === 'kind' ? [key] : ['metadata', key])))
          .join(' '),
      );
      assert.deepEqual(keys.toSorted(), [...new Set(keys)].sort());
    });

    test(`${name} shares no name with another release that matters to the cluster`, () => {
      const own = new Set(['view', 'edit'].map((role) => `ambit-${role}`));
      for (const object of objectsOf(name)) {
        const [kind, called] = [textAt(object, 'kind'), textAt(object, 'metadata', 'name')];
        if (!/^ClusterRole/.test(kind) || own.has(called)) continue;
        assert.match(called, new RegExp(`-${RENDERED_NAMESPACE}$`), `${kind} ${called}`);
      }
    });
  }

  test('policies of the network leave open what probes, the webhook, agents and Prometheus call', () => {
    const objects = objectsOf('everything');
    for (const kind of ['DaemonSet', 'Deployment']) {
      const workload = objects.find((object) => textAt(object, 'kind') === kind);
      const ports = valueAt(workload, 'spec', 'template', 'spec', 'containers', 0, 'ports');
      const served = (Array.isArray(ports) ? ports : []).map((port: unknown) => Number(valueAt(port, 'containerPort')));
      assert.ok(served.length >= 2);
      const labels = JSON.stringify(valueAt(workload, 'spec', 'selector', 'matchLabels'));
      const policy = objects.find(
        (object) =>
          textAt(object, 'kind') === 'NetworkPolicy' &&
          JSON.stringify(valueAt(object, 'spec', 'podSelector', 'matchLabels')) === labels,
      );
      const open = valueAt(policy, 'spec', 'ingress', 0, 'ports');
      const opened = (Array.isArray(open) ? open : []).map((port: unknown) => Number(valueAt(port, 'port')));
      assert.deepEqual(opened.toSorted(), served.toSorted(), kind);
      assert.deepEqual(valueAt(policy, 'spec', 'policyTypes'), ['Ingress']);
    }
  });

  test('agents mount of the node what they need: never its root, and with known folders nothing that finds them', () => {
    const mounts = (name: string): string[] => {
      const volumes = valueAt(objectOfKind(objectsOf(name), 'DaemonSet'), 'spec', 'template', 'spec', 'volumes');
      return (Array.isArray(volumes) ? volumes : [])
        .map((volume) => textAt(volume, 'hostPath', 'path'))
        .filter(Boolean);
    };
    assert.deepEqual(mounts('default'), ['/var/run/ambit', '/var/run/netns', '/proc']);
    assert.deepEqual(mounts('restricted'), [
      '/var/run/ambit',
      '/var/run/netns',
      '/proc',
      '/opt/cni/bin',
      '/etc/cni/net.d',
    ]);
    assert.equal(environmentOf(objectsOf('restricted'), 'DaemonSet').get('AMBIT_HOST_ROOT'), '/host');
  });

  test('an administrator and the owner of a namespace make together what one makes alone', () => {
    const ids = (scope: string): string[] =>
      renderChart('ambit', [`global.resourceScope=${scope}`]).map(
        (object) =>
          `${textAt(object, 'kind')} ${textAt(object, 'metadata', 'namespace')} ${textAt(object, 'metadata', 'name')}`,
      );
    const [all, cluster, namespace] = [ids('all'), ids('cluster'), ids('namespace')];
    assert.deepEqual([...cluster, ...namespace].sort(), all.toSorted());
    assert.ok(cluster.every((id) => id.split(' ')[1] === '') && namespace.every((id) => id.split(' ')[1] !== ''));
  });

  test('values that a chart does not have, or that do not fit together, are refused in words', () => {
    const refused: readonly (readonly [string, RegExp])[] = [
      ['ambit-agent.replicas=1', /ambit-agent:[\s\S]*additional properties 'replicas' not allowed/],
      ['ambit-agnt.logLevel=info', /additional properties 'ambit-agnt' not allowed/],
      ['global.netwrk=x', /'netwrk' not allowed/],
      ['ambit-agent.logLevel=loud', /logLevel[\s\S]*value must be one of/],
      ['ambit-agent.env.AMBIT_SELFTEST=false', /invalid propertyName 'AMBIT_SELFTEST'[\s\S]*AMBIT_SELF_TEST/],
      ['ambit-agent.env.NETWORK=x', /invalid propertyName 'NETWORK'/],
      ['ambit-control.env.NO_SUCH=x', /invalid propertyName 'NO_SUCH'/],
      ['ambit-agent.cniBinDir=opt', /cniBinDir/],
      ['ambit-agent.cniBinDir=/opt', /cniBinDir and cniConfDir belong together/],
      ['ambit-agent.trustDomain=x', /set ambit-control.meshConfig.trustDomain and ambit-agent.trustDomain alike/],
      ['ambit-agent.resourceName=x', /ambit-control.trustedZtunnelName alike/],
      ['ambit-control.meshConfig.accessLogFile=x,ambit-control.revision=x,ambit-agent.revision=x', /read by nobody/],
      ['ambit-agent.revision=x', /ambit-control.revision and ambit-agent.revision alike/],
    ];
    for (const [value, words] of refused) assert.throws(() => renderChart('ambit', [value]), words, value);
  });
});

describe('a real API server', { skip }, () => {
  let api: KubeApi;
  before(async () => {
    api = await openKubeApi({ crds: false });
    await api.namespace(RENDERED_NAMESPACE);
  });
  after(() => api[Symbol.asyncDispose]());

  for (const name of renderedNames()) {
    test(`takes ${name} by server-side apply, strictly; a second time changes nothing and conflicts with nobody`, async () => {
      const objects = objectsOf(name).filter((object) => textAt(object, 'kind') !== FOREIGN);
      await apply(objects);
      // Somebody else writes where it may: definitions become established, the control plane writes its roots.
      for (const object of objects) if (textAt(object, 'kind').endsWith('Definition')) await established(object);
      for (const object of objects) {
        if (textAt(object, 'kind') === 'ValidatingWebhookConfiguration')
          await writeRoots(textAt(object, 'metadata', 'name'), `a root for ${name}`);
      }
      const before = await versions(objects);
      await apply(objects);
      assert.deepEqual(await versions(objects), before);
    });
  }

  test('gives definitions that Helm made to whoever applies them next, for nothing in them differs', async () => {
    const definitions = objectsOf('default').filter((object) => textAt(object, 'kind').endsWith('Definition'));
    assert.equal(definitions.length, 4);
    await kubectl(['delete', '-f', '-'], listOf(definitions));
    await kubectl(['create', '--field-manager=helm', '--validate=strict', '-f', '-'], listOf(definitions));
    await apply(definitions);
  });

  async function kubectl(args: readonly string[], input = ''): Promise<string> {
    return await run(clusterBinary('kubectl'), ['--kubeconfig', api.kubeconfig, ...args], { input });
  }

  async function apply(objects: readonly unknown[]): Promise<void> {
    await kubectl(['apply', '--server-side', '--validate=strict', '-f', '-'], listOf(objects));
  }

  async function established(object: unknown): Promise<void> {
    await kubectl(['wait', 'crd', textAt(object, 'metadata', 'name'), '--for=condition=Established', '--timeout=30s']);
  }

  async function writeRoots(name: string, roots: string): Promise<void> {
    const resource = RESOURCES.ValidatingWebhookConfiguration;
    const patch = caBundlePatch(await api.admin().get(resource, '', name), roots);
    assert.ok(patch !== undefined);
    await api.admin().jsonPatch(resource, '', name, patch);
  }

  async function versions(objects: readonly unknown[]): Promise<Record<string, string>> {
    const list: unknown = JSON.parse(await kubectl(['get', '-f', '-', '-o', 'json'], listOf(objects)));
    const items = valueAt(list, 'items');
    assert.ok(Array.isArray(items) && items.length === objects.length);
    return Object.fromEntries(
      items.map((item) => [
        `${textAt(item, 'kind')} ${textAt(item, 'metadata', 'name')}`,
        textAt(item, 'metadata', 'resourceVersion'),
      ]),
    );
  }
});

function listOf(objects: readonly unknown[]): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
}
