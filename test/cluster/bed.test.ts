/** The bed is a Kubernetes cluster in every respect the mesh relies on, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { namespacesOf, tracesOf } from '../support/bed-traces.ts';
import { Bed, bedObstacle, openCluster } from '../support/cluster.ts';
import { daemonSet, deployment, pod, service } from '../support/cluster-workloads.ts';
import { eventually } from '../support/eventually.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { ROOT } from '../support/source-files.ts';

const obstacle = bedObstacle();

describe('the two-node bed', { skip: obstacle ?? false }, () => {
  let bed: Bed;
  let linksBefore: readonly string[];

  before(async () => {
    linksBefore = links();
    const cluster = await openCluster();
    assert.ok(cluster instanceof Bed);
    bed = cluster;
    await bed.apply(
      deployment({ name: 'web', replicas: 2 }),
      service({ name: 'web' }),
      pod({ name: 'client', podSpec: { volumes: [TOKEN_VOLUME] }, container: { volumeMounts: [TOKEN_MOUNT] } }),
      daemonSet({ name: 'agent', podSpec: AGENT_POD, container: AGENT_CONTAINER }),
    );
    await bed.waitForRollout('kube-system', 'deploy/coredns');
    await bed.waitForRollout('default', 'deploy/web');
    await bed.waitForRollout('default', 'ds/agent');
    await bed.waitFor('default', 'pod/client', 'condition=Ready');
  });

  after(async () => {
    const namespaces = namespacesOf(bed);
    assert.ok(namespaces.size >= 2 * 6, 'the bed has no namespaces of its own');
    await bed[Symbol.asyncDispose]();
    // What was killed may take a moment to go.
    await eventually('nothing of the bed is left', () => assert.deepEqual(tracesOf(bed, namespaces), []));
    assert.deepEqual(links(), linksBefore);
  });

  test('runs pods on both nodes, which reach each other by address', async () => {
    const pods = await bed.pods('default', 'app=web');
    assert.deepEqual(pods.map((item) => textAt(item, 'spec', 'nodeName')).sort(), ['node1', 'node2']);
    for (const item of pods) {
      const answer = await get(`http://${textAt(item, 'status', 'podIP')}:8080/`);
      assert.equal(textAt(answer, 'pod'), textAt(item, 'metadata', 'name'));
      assert.equal(textAt(answer, 'peer'), await addressOf('client'), 'the address of the client was translated');
    }
  });

  test('has services with names', async () => {
    assert.match(textAt(await get('http://web.default.svc.cluster.local/'), 'pod'), /^web-/);
  });

  test('is reached by pods with their token', async () => {
    const folder = '/var/run/secrets/kubernetes.io/serviceaccount';
    const script = `curl -sfm5 --cacert ${folder}/ca.crt -H "Authorization: Bearer $(cat ${folder}/token)" https://kubernetes.default/version`;
    const version: unknown = JSON.parse(await bed.podExec('default', 'client', ['sh', '-c', script]));
    assert.equal(textAt(version, 'major'), '1');
  });

  test('reaches pods from the network of the API server, as webhooks need it', async () => {
    const answer = await bed.kubectl(['get', '--raw', '/api/v1/namespaces/default/services/web:80/proxy/hello']);
    assert.equal(textAt(JSON.parse(answer), 'path'), '/hello');
    const direct = await bed.outside(['curl', '-sfm5', `http://${await addressOf('client')}:8080/`]);
    assert.equal(textAt(JSON.parse(direct), 'pod'), 'client');
  });

  test('reviews tokens of an audience of their own and names pod and node', async () => {
    const token = await bed.podExec('default', 'client', ['cat', '/tokens/token']);
    const body = {
      kind: 'TokenReview',
      apiVersion: 'authentication.k8s.io/v1',
      spec: { token, audiences: ['istio-ca'] },
    };
    const answer: unknown = JSON.parse(
      await bed.kubectl(['create', '-o', 'json', '-f', '-'], { input: JSON.stringify(body) }),
    );
    const extra = valueAt(answer, 'status', 'user', 'extra');
    assert.deepEqual(valueAt(extra, 'authentication.kubernetes.io/pod-name'), ['client']);
    assert.deepEqual(valueAt(extra, 'authentication.kubernetes.io/node-name'), [await nodeOf('client')]);
  });

  test('calls a chained CNI plugin with a namespace that a running agent can enter', async () => {
    for (const node of await bed.nodes()) {
      await bed.nodeExec(node, ['sh', '-c', 'cat > /opt/cni/bin/probe && chmod 755 /opt/cni/bin/probe'], {
        input: PROBE,
      });
      await bed.nodeExec(node, ['sh', '-c', CHAIN]);
    }
    await bed.apply(pod({ name: 'chained' }));
    await bed.waitFor('default', 'pod/chained', 'condition=Ready');
    const node = await nodeOf('chained');
    const calls = await bed.nodeExec(node, ['cat', '/run/agent/calls']);
    const netns = /^ADD (\S+) \S*K8S_POD_NAME=chained/m.exec(calls)?.[1] ?? '';
    const [agent] = (await bed.pods('default', 'app=agent')).filter(
      (item) => textAt(item, 'spec', 'nodeName') === node,
    );
    const seen = await bed.podExec('default', textAt(agent, 'metadata', 'name'), [
      ...['nsenter', `--net=${netns}`, 'ip', '-4', '-o', 'addr', 'show', 'eth0'],
    ]);
    assert.ok(seen.includes(` ${await addressOf('chained')}/`), `${calls}\n${seen}`);
  });

  test('installs a chart with helm', async () => {
    await bed.helm(['install', 'least', join(ROOT, 'test', 'cluster', 'chart'), '--wait', '--timeout', '50s']);
    assert.equal((await bed.pods('default', 'app=least')).length, 2);
    await bed.helm(['uninstall', 'least', '--wait', '--timeout', '50s']);
  });

  test('runs its pods again after a node lost its power', async () => {
    const [victim] = (await bed.pods('default', 'app=web')).filter(
      (item) => textAt(item, 'spec', 'nodeName') === 'node2',
    );
    const name = textAt(victim, 'metadata', 'name');
    const restarts = async (): Promise<unknown> =>
      valueAt(
        JSON.parse(await bed.kubectl(['get', 'pod', name, '-o', 'json'])),
        ...['status', 'containerStatuses', 0, 'restartCount'],
      );
    assert.equal(await restarts(), 0);
    await bed.killNode('node2');
    await bed.startNodes();
    await eventually('the container was started again', async () => assert.equal(await restarts(), 1), 60_000);
    await bed.waitFor('default', `pod/${name}`, 'condition=Ready');
  });

  async function get(url: string): Promise<unknown> {
    return JSON.parse(await bed.podExec('default', 'client', ['curl', '-sfm5', url]));
  }

  async function addressOf(name: string): Promise<string> {
    return bed.kubectl(['get', 'pod', name, '-o', 'jsonpath={.status.podIP}']);
  }

  async function nodeOf(name: string): Promise<string> {
    return bed.kubectl(['get', 'pod', name, '-o', 'jsonpath={.spec.nodeName}']);
  }
});

const TOKEN_VOLUME = {
  name: 'tokens',
  projected: { sources: [{ serviceAccountToken: { path: 'token', audience: 'istio-ca', expirationSeconds: 600 } }] },
};
const TOKEN_MOUNT = { name: 'tokens', mountPath: '/tokens' };

const AGENT_POD = {
  tolerations: [{ operator: 'Exists' }],
  volumes: [{ name: 'netns', hostPath: { path: '/var/run/netns' } }],
};
const AGENT_CONTAINER = {
  securityContext: { privileged: true, runAsUser: 0 },
  volumeMounts: [{ name: 'netns', mountPath: '/var/run/netns', mountPropagation: 'HostToContainer' }],
};

/** Records the call and passes on what it was given. */
const PROBE = `#!/bin/sh
config=$(cat)
[ "$CNI_COMMAND" = VERSION ] && { echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'; exit 0; }
mkdir -p /run/agent && echo "$CNI_COMMAND $CNI_NETNS $CNI_ARGS" >> /run/agent/calls
[ "$CNI_COMMAND" = ADD ] && printf '%s' "$config" | jq -c .prevResult
exit 0
`;
/** Renamed into place: containerd looks at the folder. */
const CHAIN = `cd /etc/cni/net.d && jq '.plugins += [{type: "probe"}]' 10-pods.conflist > .draft && mv .draft 10-pods.conflist`;

/** The network links of the machine that do not belong to tests which run beside this one. */
function links(): string[] {
  return readdirSync('/sys/class/net').filter((name) => readFileSync(`/sys/class/net/${name}/address`, 'utf8') !== '');
}
