/**
 * Our agent's clients under our control plane: from a YAML file to the verdict about a connection, through real gRPC,
 * and from a certificate request to material that TLS takes.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { authorize } from '../../agent/route/authorize.ts';
import { CaClient } from '../../agent/state/ca-client.ts';
import type { ControlEndpoint } from '../../agent/state/control-channel.ts';
import { MeshState } from '../../agent/state/mesh-state.ts';
import { ResourceFeed } from '../../agent/state/resource-feed.ts';
import { XdsClient } from '../../agent/state/xds-client.ts';
import { xdsNode } from '../../agent/state/xds-node.ts';
import { mintAgentToken } from '../../control/tokens.ts';
import { getIp } from '../../core/ip.ts';
import { formatSpiffeId } from '../../core/spiffe.ts';
import { opensslVerify } from '../support/certificate-request.ts';
import { AGENT, ControlFixture } from '../support/control.ts';
import { eventually } from '../support/eventually.ts';

const WEB_UID = 'Kubernetes//Pod/shop/web-1';
const MESH = `apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}, annotations: {ambient.istio.io/redirection: enabled}}
spec:
  nodeName: node-a
  serviceAccountName: web
  containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
`;

interface Agent {
  readonly endpoint: ControlEndpoint;
  readonly state: MeshState;
}

async function startAgent(context: TestContext, fixture: ControlFixture): Promise<Agent> {
  const tokenFile = join(fixture.stateDir, 'agent-token');
  const token = await mintAgentToken(join(fixture.stateDir, 'token-key.pem'), { ...AGENT, node: 'node-a' }, 3_600_000);
  writeFileSync(tokenFile, token, { mode: 0o600 });
  const endpoint = {
    address: `127.0.0.1:${fixture.control.port}`,
    rootCaFile: join(fixture.stateDir, 'root-cert.pem'),
    tokenFile,
    clusterId: 'Kubernetes',
  };
  const feed = new ResourceFeed(new MeshState());
  const node = xdsNode({ nodeName: 'node-a', podName: 'agent-1', podNamespace: 'istio-system', metadata: {} });
  const client = new XdsClient(feed, { endpoint, node, firstBackoffMs: 20, maxBackoffMs: 100 });
  context.after(() => client.stop());
  client.start();
  await client.synced;
  return { endpoint, state: feed.state };
}

/** Who may talk to web-1: an identity's last part or `plain`, and a port. */
function isAllowed(state: MeshState, who: string, port = 8080): boolean {
  const local = state.findWorkloadByUid(WEB_UID);
  if (local === undefined) throw new Error('no workload');
  const source =
    who === 'plain'
      ? undefined
      : formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: who });
  const facts = { source, sourceIp: getIp('10.0.0.9'), destinationIp: getIp('10.0.0.1'), destinationPort: port };
  return authorize(state, local, facts).kind === 'allow';
}

const policy = (spec: string): string =>
  `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: ${spec}\n`;
const peer = (name: string, namespace: string, spec: string): string =>
  `apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}\n`;
const SELECTOR = 'selector: {matchLabels: {app: web}}';

/** Allowed of: alice, bob, plain on 8080; alice, plain on 9090. */
const CASES: [name: string, yaml: string, allowed: string][] = [
  ['no policy: everybody', '', 'alice bob plain alice:9090 plain:9090'],
  ['allow nothing', policy('{}'), ''],
  [
    'allow an identity',
    policy('{rules: [{from: [{source: {principals: ["cluster.local/ns/shop/sa/alice"]}}]}]}'),
    'alice alice:9090',
  ],
  [
    'deny an identity on a port, by selector',
    policy(
      `{${SELECTOR}, action: DENY, rules: [{from: [{source: {serviceAccounts: [alice]}}], to: [{operation: {ports: ["8080"]}}]}]}`,
    ),
    'bob plain alice:9090 plain:9090',
  ],
  [
    'deny with an L7 clause denies more, never nothing',
    policy('{action: DENY, rules: [{from: [{source: {serviceAccounts: [alice]}}], to: [{operation: {paths: [/a]}}]}]}'),
    'bob plain plain:9090',
  ],
  [
    'allow with an L7 clause allows less',
    policy('{rules: [{from: [{source: {serviceAccounts: [alice]}}], to: [{operation: {paths: [/a]}}]}]}'),
    '',
  ],
  [
    'a dry run enforces nothing',
    policy('{action: DENY, rules: [{}]}').replace(
      'namespace: shop',
      'namespace: shop, annotations: {istio.io/dry-run: "true"}',
    ),
    'alice bob plain alice:9090 plain:9090',
  ],
  ['STRICT for the mesh', peer('m', 'istio-system', '{mtls: {mode: STRICT}}'), 'alice bob alice:9090'],
  [
    'STRICT with a permissive port',
    peer('w', 'shop', `{${SELECTOR}, mtls: {mode: STRICT}, portLevelMtls: {9090: {mode: PERMISSIVE}}}`),
    'alice bob alice:9090 plain:9090',
  ],
  [
    'a strict port',
    peer('w', 'shop', `{${SELECTOR}, mtls: {mode: PERMISSIVE}, portLevelMtls: {9090: {mode: STRICT}}}`),
    'alice bob plain alice:9090',
  ],
  [
    'gap (a): STRICT above, workload unset, port disabled',
    `${peer('m', 'istio-system', '{mtls: {mode: STRICT}}')}---\n${peer('w', 'shop', `{${SELECTOR}, portLevelMtls: {9090: {mode: DISABLE}}}`)}`,
    'alice bob alice:9090 plain:9090',
  ],
  [
    'gap (b): STRICT for the mesh, namespace and workload unset, port permissive',
    [
      peer('m', 'istio-system', '{mtls: {mode: STRICT}}'),
      peer('n', 'shop', '{}'),
      peer('w', 'shop', `{${SELECTOR}, portLevelMtls: {9090: {mode: PERMISSIVE}}}`),
    ].join('---\n'),
    'alice bob alice:9090 plain:9090',
  ],
];

test('from a policy file to the verdict about a connection', async (context) => {
  const fixture = await ControlFixture.start(context, { 'mesh.yaml': MESH });
  const { state } = await startAgent(context, fixture);
  for (const [name, yaml, allowed] of CASES) {
    fixture.write('policy.yaml', yaml);
    await eventually(name, () => {
      const verdicts = ['alice', 'bob', 'plain', 'alice:9090', 'plain:9090'].filter((text) => {
        const [who = '', port = '8080'] = text.split(':');
        return isAllowed(state, who, Number(port));
      });
      assert.equal(verdicts.join(' '), allowed);
    });
  }
});

test('the agent knows pods and services as their files say', async (context) => {
  const fixture = await ControlFixture.start(context, { 'mesh.yaml': MESH });
  const { state } = await startAgent(context, fixture);
  assert.equal(state.findWorkloadByIp('', getIp('10.0.0.1'))?.uid, WEB_UID);
  assert.equal(state.findServiceByVip('', getIp('10.96.0.1'), 'shop')?.hostname, 'web.shop.svc.cluster.local');
  rmSync(join(fixture.configDir, 'mesh.yaml'));
  await eventually('both are gone', () => assert.deepEqual(state.sizes, { workloads: 0, services: 0, policies: 0 }));
});

test('the agent gets certificates that TLS takes, and only for pods on its node', async (context) => {
  const fixture = await ControlFixture.start(context, { 'mesh.yaml': MESH });
  const { endpoint } = await startAgent(context, fixture);
  const client = new CaClient({ endpoint, secretTtlMs: 3_600_000, impersonate: true });
  context.after(() => client.close());
  const identity = (serviceAccount: string) =>
    formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount });
  const issued = await client.fetch(identity('web'), AbortSignal.timeout(5000));
  assert.equal(new X509Certificate(issued.certificateChainPem).subjectAltName, `URI:${identity('web')}`);
  assert.equal(opensslVerify(issued.rootsPem, issued.certificateChainPem), 'leaf: OK');
  await assert.rejects(client.fetch(identity('db'), AbortSignal.timeout(5000)), { code: 'CA' });
});
