/** The agent's clients against the control plane itself: what is written in a folder becomes what an agent decides. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { authorize } from '../../agent/route/authorize.ts';
import { decideOutbound } from '../../agent/route/outbound.ts';
import { CaClient } from '../../agent/state/ca-client.ts';
import { Certificates } from '../../agent/state/certificates.ts';
import type { ControlEndpoint } from '../../agent/state/control-channel.ts';
import { MeshState } from '../../agent/state/mesh-state.ts';
import { ResourceFeed } from '../../agent/state/resource-feed.ts';
import type { Workload } from '../../agent/state/workload.ts';
import { XdsClient } from '../../agent/state/xds-client.ts';
import { xdsNode } from '../../agent/state/xds-node.ts';
import { mintToken, openTokenKey } from '../../control/tokens.ts';
import { formatSocketAddress } from '../../core/ip.ts';
import { formatSpiffeId } from '../../core/spiffe.ts';
import { AGENT, ControlFixture } from '../support/control.ts';
import { eventually } from '../support/eventually.ts';
import { at } from '../support/mesh-resources.ts';

const PODS = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}, annotations: {ambient.istio.io/redirection: enabled}}
spec: {nodeName: node-b, serviceAccountName: web}
status: {podIP: 10.0.0.2, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, annotations: {ambient.istio.io/redirection: enabled}}
spec: {nodeName: node-a, serviceAccountName: client}
status: {podIP: 10.0.0.1, phase: Running, conditions: [{type: Ready, status: "True"}]}
`;
const DENY_ALL = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-all, namespace: shop}
spec: {action: DENY, rules: [{}]}
`;

const identity = (serviceAccount: string) =>
  formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount });

async function endpointOf(fixture: ControlFixture): Promise<ControlEndpoint> {
  const tokenFile = join(fixture.stateDir, 'test-token');
  const key = openTokenKey(join(fixture.stateDir, 'token-key.pem'));
  writeFileSync(tokenFile, await mintToken(key, { ...AGENT, node: 'node-a' }, 60_000));
  const rootCaFile = join(fixture.stateDir, 'root-cert.pem');
  return { address: `127.0.0.1:${fixture.control.port}`, rootCaFile, tokenFile, clusterId: 'Kubernetes' };
}

async function startClient(context: TestContext, endpoint: ControlEndpoint): Promise<MeshState> {
  const feed = new ResourceFeed(new MeshState());
  const node = xdsNode({ nodeName: 'node-a', podName: 'agent', podNamespace: 'istio-system' });
  const client = new XdsClient(feed, { endpoint, node, firstBackoffMs: 20 });
  context.after(() => client.stop());
  client.start();
  await client.synced;
  return feed.state;
}

function pod(state: MeshState, name: string): Workload {
  const found = state.findWorkloadByUid(`Kubernetes//Pod/shop/${name}`);
  assert.ok(found, name);
  return found;
}

test('pods, services and policies in a folder become decisions, and changes become new decisions', async (context) => {
  const fixture = await ControlFixture.start(context, { 'pods.yaml': PODS });
  const state = await startClient(context, await endpointOf(fixture));
  const client = pod(state, 'client');
  const settings = { outboundPolicy: 'ALLOW_ANY', forceEncryption: false, isLocalPod: () => false } as const;
  const decision = decideOutbound(state, client, at('10.0.0.1:1').ip, at('10.1.0.1:80'), settings, () => 0);
  assert.ok(decision.kind === 'tunnel', decision.kind);
  assert.equal(formatSocketAddress(decision.dial), '10.0.0.2:15008');
  assert.equal(decision.authority, '10.0.0.2:8080');
  assert.deepEqual(decision.expectedIdentities, [identity('web')]);

  const facts = {
    source: client.identity,
    sourceIp: at('10.0.0.1:1').ip,
    destinationIp: at('10.0.0.2:1').ip,
    destinationPort: 8080,
  };
  const verdict = () => authorize(state, pod(state, 'web-1'), facts);
  assert.equal(verdict().kind, 'allow');
  fixture.write('policy.yaml', DENY_ALL);
  await eventually('the policy denies', () => assert.equal(verdict().policy, 'shop/deny-all'));
  fixture.write('policy.yaml', '');
  await eventually('the policy is gone', () => assert.equal(verdict().kind, 'allow'));
  fixture.write('pods.yaml', PODS.replaceAll('10.0.0.2', '10.0.0.9'));
  await eventually('the pod has moved', () => assert.ok(state.findWorkloadByIp('', at('10.0.0.9:1').ip)));
  assert.equal(state.findWorkloadByIp('', at('10.0.0.2:1').ip), undefined);
});

test('certificates are issued for the pods of the node and for no other', async (context) => {
  const fixture = await ControlFixture.start(context, { 'pods.yaml': PODS });
  const source = new CaClient({ endpoint: await endpointOf(fixture), secretTtlMs: 3_600_000, impersonate: true });
  const certificates = new Certificates({ source });
  context.after(() => {
    certificates.close();
    source.close();
  });
  const issued = await certificates.get(identity('client'));
  const leaf = new X509Certificate(issued.certificateChainPem);
  assert.equal(leaf.subjectAltName, `URI:${identity('client')}`);
  assert.ok(leaf.verify(new X509Certificate(issued.rootsPem).publicKey));
  await assert.rejects(certificates.get(identity('web')), { code: 'CA' });
});
