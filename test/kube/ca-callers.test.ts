/** Who gets a certificate from a CA that asks a real API server: bound tokens, pods that end, forgeries, certificates. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { SignJWT } from 'jose';
import { CaClient } from '../../agent/state/ca-client.ts';
import { SecretRootStore } from '../../control/ca/secret-root-store.ts';
import { formatSpiffeId, type SpiffeId } from '../../core/spiffe.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { makeRequest } from '../support/certificate-request.ts';
import { ClusterCa, TRUST_DOMAIN } from '../support/cluster-ca.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi, TOKEN_ISSUER } from '../support/kube-api.ts';
import { createAuthority } from '../support/pki.ts';

const SYSTEM = 'istio-system';
const UNAUTHENTICATED = { code: status.UNAUTHENTICATED };
let api: KubeApi;

before(async () => {
  api = await openKubeApi({ crds: false });
  await Promise.all([SYSTEM, 'shop'].map((name) => api.namespace(name)));
  await api.createServiceAccount(SYSTEM, 'ambit-agent');
  await api.createServiceAccount(SYSTEM, 'impostor');
  await Promise.all(['web', 'db', 'job'].map((name) => api.createServiceAccount('shop', name)));
  for (const node of ['node-a', 'node-b']) await createNode(node);
  await createPod(SYSTEM, 'agent-a', 'ambit-agent', 'node-a');
  await createPod(SYSTEM, 'agent-b', 'ambit-agent', 'node-b');
  await createPod('shop', 'web-1', 'web', 'node-a');
  await createPod('shop', 'db-1', 'db', 'node-b');
});

after(async () => {
  await api[Symbol.asyncDispose]();
});

const of = (account: string): SpiffeId =>
  formatSpiffeId({ trustDomain: TRUST_DOMAIN, namespace: 'shop', serviceAccount: account });
const tokenOf = (namespace: string, account: string, boundPod: string): Promise<string> =>
  api.serviceAccountToken(namespace, account, { audience: 'istio-ca', boundPod });
const agentToken = (pod = 'agent-a'): Promise<string> => tokenOf(SYSTEM, 'ambit-agent', pod);

function startCa(context: TestContext): Promise<ClusterCa> {
  return ClusterCa.start(
    context,
    api.admin(),
    new SecretRootStore(api.admin(), { namespace: SYSTEM, organization: TRUST_DOMAIN }),
  );
}

function namesOf(chain: readonly string[]): string | undefined {
  return new X509Certificate(chain[0] ?? '').subjectAltName;
}

test('an agent gets the identities of pods on its node with its own bound token, and no others', async (context) => {
  const ca = await startCa(context);
  const token = await agentToken();
  const { certChain } = await ca.ask({ token, identity: of('web') });
  assert.equal(namesOf(certChain), `URI:${of('web')}`);
  assert.equal(certChain.at(-1), ca.authority.rootsPem());
  for (const foreign of [of('db'), of('ghost'), 'spiffe://other.example/ns/shop/sa/web', 'web', '']) {
    await assert.rejects(ca.ask({ token, identity: foreign }), UNAUTHENTICATED, foreign);
  }
  assert.equal(
    namesOf((await ca.ask({ token: await agentToken('agent-b'), identity: of('db') })).certChain),
    `URI:${of('db')}`,
  );
  assert.equal(
    namesOf((await ca.ask({ token })).certChain),
    `URI:spiffe://${TRUST_DOMAIN}/ns/${SYSTEM}/sa/ambit-agent`,
  );
});

test('a workload gets its own identity with its own token and nothing else', async (context) => {
  const ca = await startCa(context);
  const token = await tokenOf('shop', 'web', 'web-1');
  for (const identity of [undefined, of('web')]) {
    assert.equal(namesOf((await ca.ask({ token, ...(identity && { identity }) })).certChain), `URI:${of('web')}`);
  }
  await assert.rejects(ca.ask({ token, identity: of('db') }), UNAUTHENTICATED);
});

test('tokens that are bound to no pod, or of an account that is no agent, give no right to others', async (context) => {
  const ca = await startCa(context);
  const unbound = await api.serviceAccountToken(SYSTEM, 'ambit-agent', { audience: 'istio-ca' });
  await assert.rejects(ca.ask({ token: unbound, identity: of('web') }), UNAUTHENTICATED);
  await createPod(SYSTEM, 'impostor', 'impostor', 'node-a');
  await assert.rejects(
    ca.ask({ token: await tokenOf(SYSTEM, 'impostor', 'impostor'), identity: of('web') }),
    UNAUTHENTICATED,
  );
});

test('forged, expired, foreign and damaged tokens are refused and never reach the API server', async (context) => {
  const ca = await startCa(context);
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const genuine = await agentToken();
  const [head = '', payload = '', signature = ''] = genuine.split('.');
  const claims = { 'kubernetes.io': { namespace: SYSTEM, serviceaccount: { name: 'ambit-agent', uid: 'x' } } };
  const forge = (kid: string, change: (jwt: SignJWT) => SignJWT = (jwt) => jwt): Promise<string> =>
    change(
      new SignJWT(claims)
        .setProtectedHeader({ alg: 'RS256', kid })
        .setIssuer(TOKEN_ISSUER)
        .setAudience('istio-ca')
        .setSubject(`system:serviceaccount:${SYSTEM}:ambit-agent`)
        .setIssuedAt()
        .setExpirationTime('1h'),
    ).sign(stranger);
  const kid: unknown = JSON.parse(Buffer.from(head, 'base64url').toString()).kid;
  const altered = Buffer.from(payload, 'base64url').toString().replaceAll('agent-a', 'agent-b');
  const bad: [string, string][] = [
    ['signed by a stranger', await forge('another-key')],
    ['signed by a stranger in the name of the real key', await forge(String(kid))],
    ['expired', await forge(String(kid), (jwt) => jwt.setExpirationTime(Math.floor(Date.now() / 1000) - 1))],
    ['altered', [head, Buffer.from(altered).toString('base64url'), signature].join('.')],
    ['without a signature', [head, payload, ''].join('.')],
    [
      'of another audience',
      await api.serviceAccountToken(SYSTEM, 'ambit-agent', { audience: 'vault', boundPod: 'agent-a' }),
    ],
    ['of the API server itself', await api.serviceAccountToken(SYSTEM, 'ambit-agent', { boundPod: 'agent-a' })],
    ['garbage', 'a.b.c'],
  ];
  for (const [name, token] of bad) await assert.rejects(ca.ask({ token, identity: of('web') }), UNAUTHENTICATED, name);
  await assert.rejects(ca.ask({ identity: of('web') }), UNAUTHENTICATED, 'no token');
  assert.equal(ca.tokens.reviews, 0);
  await ca.ask({ token: genuine, identity: of('web') });
  assert.equal(ca.tokens.reviews, 1);
  await ca.ask({ token: genuine, identity: of('web') });
  assert.equal(ca.tokens.reviews, 1, 'the verdict is remembered');
});

test('an agent whose pod is deleted in the middle loses its rights, with a token that was accepted before', async (context) => {
  const ca = await startCa(context);
  await createPod(SYSTEM, 'agent-gone', 'ambit-agent', 'node-a');
  const token = await agentToken('agent-gone');
  await ca.ask({ token, identity: of('web') });
  await deletePod(SYSTEM, 'agent-gone');
  await eventually('it is refused', () => assert.rejects(ca.ask({ token, identity: of('web') }), UNAUTHENTICATED));
  await createPod(SYSTEM, 'agent-gone', 'ambit-agent', 'node-a');
  await eventually('the new pod is known', () => assert.ok(ca.pods.find('Pod', SYSTEM, 'agent-gone')));
  await assert.rejects(
    ca.ask({ token, identity: of('web') }),
    UNAUTHENTICATED,
    'another pod of that name changes nothing',
  );
  await ca.ask({ token: await agentToken('agent-gone'), identity: of('web') });
});

test('a pod that has ended gives nobody a right to its identity, a pod that is going still does', async (context) => {
  const ca = await startCa(context);
  await createPod('shop', 'job-1', 'job', 'node-a');
  const [agent, own] = [await agentToken(), await tokenOf('shop', 'job', 'job-1')];
  await ca.ask({ token: agent, identity: of('job') });
  await ca.ask({ token: own });
  await api.call('DELETE', '/api/v1/namespaces/shop/pods/job-1');
  await eventually('it is going', () => assert.equal(ca.pods.find('Pod', 'shop', 'job-1')?.meta.deleting, true));
  await ca.ask({ token: agent, identity: of('job') });
  await api.admin().mergePatch(RESOURCES.Pod, 'shop', 'job-1', { status: { phase: 'Succeeded' } }, 'status');
  await eventually('it has ended', () => assert.equal(ca.pods.find('Pod', 'shop', 'job-1')?.phase, 'Succeeded'));
  await assert.rejects(ca.ask({ token: agent, identity: of('job') }), UNAUTHENTICATED);
  await assert.rejects(ca.ask({ token: own }), UNAUTHENTICATED);
  await deletePod('shop', 'job-1');
});

test('a pod that a kubelet makes up gives its node no identity: it has no service account, not even the default one', async (context) => {
  const ca = await startCa(context);
  await api.call('POST', '/api/v1/namespaces/shop/pods', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'made-up-node-a', annotations: { 'kubernetes.io/config.mirror': 'x' } },
    spec: { nodeName: 'node-a', containers: [{ name: 'main', image: 'example.invalid/none' }] },
  });
  await eventually('the pod is known', () => assert.ok(ca.pods.find('Pod', 'shop', 'made-up-node-a')));
  await assert.rejects(ca.ask({ token: await agentToken(), identity: of('default') }), UNAUTHENTICATED);
  await deletePod('shop', 'made-up-node-a');
});

test('a certificate is asked for before the pod is known: the answer waits for the news', async (context) => {
  const ca = await startCa(context);
  const token = await agentToken();
  await ca.ask({ token });
  const early = ca.ask({ token, identity: of('late') });
  await api.createServiceAccount('shop', 'late');
  await createPod('shop', 'late-1', 'late', 'node-a');
  assert.equal(namesOf((await early).certChain), `URI:${of('late')}`);
});

test('whoever shows a certificate of ours renews it, gets no other identity, and strangers get nothing', async (context) => {
  const ca = await startCa(context);
  const key = makeRequest();
  const { certChain } = await ca.ask({ token: await agentToken(), csr: key.csr });
  const own = `spiffe://${TRUST_DOMAIN}/ns/${SYSTEM}/sa/ambit-agent`;
  const certificate = { chainPem: certChain[0] ?? '', keyPem: key.keyPem };
  const renewed = await ca.ask({ certificate });
  assert.equal(namesOf(renewed.certChain), `URI:${own}`);
  await assert.rejects(ca.ask({ certificate, identity: of('web') }), UNAUTHENTICATED, 'also where it is an agent');
  const stranger = strangersCertificate(own);
  await assert.rejects(ca.ask({ certificate: stranger }), UNAUTHENTICATED);
  const token = await tokenOf('shop', 'web', 'web-1');
  assert.equal(
    namesOf((await ca.ask({ certificate: stranger, token })).certChain),
    `URI:${of('web')}`,
    'his token counts',
  );
});

test('the client of our agents gets certificates with a projected token, and reads the token again when it was replaced', async (context) => {
  const ca = await startCa(context);
  const folder = mkdtempSync(join(tmpdir(), 'ambit-token-'));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  const [tokenFile, rootCaFile] = [join(folder, 'token'), join(folder, 'root.pem')];
  writeFileSync(rootCaFile, ca.authority.rootsPem());
  writeFileSync(tokenFile, await agentToken('agent-b'));
  const endpoint = { address: `127.0.0.1:${ca.port}`, rootCaFile, tokenFile };
  const client = new CaClient({ endpoint, secretTtlMs: 3_600_000, impersonate: true });
  context.after(() => client.close());
  const signal = new AbortController().signal;
  await assert.rejects(client.fetch(of('web'), signal), { code: 'CA' }, 'the token of another node');
  writeFileSync(tokenFile, `${await agentToken()}\n`);
  const issued = await client.fetch(of('web'), signal);
  assert.equal(issued.identity, of('web'));
});

function strangersCertificate(identity: string): { chainPem: string; keyPem: string } {
  const leaf = createAuthority('root of a stranger').issue({ uris: [identity] });
  return { chainPem: leaf.certificateChainPem, keyPem: leaf.privateKeyPem };
}

function createNode(name: string): Promise<unknown> {
  return api.call('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name } });
}

async function createPod(namespace: string, name: string, serviceAccountName: string, nodeName: string): Promise<void> {
  await api.call('POST', `/api/v1/namespaces/${namespace}/pods`, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: { serviceAccountName, nodeName, containers: [{ name: 'main', image: 'example.invalid/none' }] },
  });
}

async function deletePod(namespace: string, name: string): Promise<void> {
  await api.call('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}?gracePeriodSeconds=0`);
}
