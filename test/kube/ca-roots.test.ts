/** The roots of the CA in a real cluster: shared by replicas, rotated, damaged by hand, plugged in, handed out. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { CertificateAuthority } from '../../control/ca/authority.ts';
import { findRootStore } from '../../control/ca/find-root-store.ts';
import { ROTATION_POLICY, type RotationPolicy } from '../../control/ca/rotation.ts';
import { SecretRootStore } from '../../control/ca/secret-root-store.ts';
import { formatSpiffeId } from '../../core/spiffe.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { opensslVerify } from '../support/certificate-request.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { outsideIntermediate, outsideRoot, pluginTexts, RSA } from '../support/plugged-ca.ts';
import { ROOT } from '../support/source-files.ts';

const DAY_MS = 86_400_000;
const ALICE = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'alice' });
const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
let api: KubeApi;
let namespaces = 0;

before(async () => {
  api = await openKubeApi({ crds: false });
});

after(async () => {
  await api[Symbol.asyncDispose]();
});

/** A namespace of its own for each test. */
async function freshNamespace(): Promise<string> {
  const name = `system-${++namespaces}`;
  await api.namespace(name);
  return name;
}

interface ReplicaOptions {
  readonly now?: () => number;
  readonly policy?: Partial<RotationPolicy>;
  readonly organization?: string;
}

async function replica(
  context: TestContext,
  namespace: string,
  options: ReplicaOptions = {},
): Promise<CertificateAuthority> {
  const { now = Date.now, policy = {}, organization = 'cluster.local' } = options;
  const store = new SecretRootStore(api.admin(), { namespace, organization, now });
  const authority = new CertificateAuthority(store, { ...ROTATION_POLICY, ...policy }, now);
  context.after(() => authority.close());
  await authority.open();
  return authority;
}

/** Of whatever store the cluster has. */
async function anyReplica(context: TestContext, namespace: string): Promise<CertificateAuthority> {
  const store = await findRootStore(api.admin(), { namespace, trustDomain: 'cluster.local' });
  const authority = new CertificateAuthority(store, ROTATION_POLICY);
  context.after(() => authority.close());
  await authority.open();
  return authority;
}

const secretOf = (namespace: string) => api.admin().get(RESOURCES.Secret, namespace, 'istio-ca-secret');

async function textsOf(namespace: string): Promise<Map<string, string>> {
  const data: unknown = (await secretOf(namespace)).data;
  assert.ok(typeof data === 'object' && data !== null);
  return new Map(Object.entries(data).map(([name, text]) => [name, Buffer.from(String(text), 'base64').toString()]));
}

function putSecret(namespace: string, name: string, texts: Readonly<Record<string, string>>): Promise<unknown> {
  const data = Object.fromEntries(Object.entries(texts).map(([k, text]) => [k, Buffer.from(text).toString('base64')]));
  return api
    .admin()
    .create(RESOURCES.Secret, namespace, { apiVersion: 'v1', kind: 'Secret', metadata: { name }, data });
}

async function edit(namespace: string, name: string, texts: Readonly<Record<string, string | null>>): Promise<void> {
  const data = Object.fromEntries(
    Object.entries(texts).map(([k, text]) => [k, text === null ? null : Buffer.from(text).toString('base64')]),
  );
  await api.admin().mergePatch(RESOURCES.Secret, namespace, name, { data });
}

function rootsIn(pem: string): string[] {
  return (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    (text) => new X509Certificate(text).fingerprint256,
  );
}

/** Verified by OpenSSL from the leaf to a root; `chain` as the CA answers. */
function verdictOf(chain: readonly string[], roots = chain.at(-1) ?? '', atMs = Date.now()): string {
  const intermediates = chain.slice(1, -1).join('');
  return opensslVerify(roots, chain[0] ?? '', ['-attime', String(Math.floor(atMs / 1000))], intermediates);
}

test('of replicas that begin at the same time one makes the root, and all sign with it', async (context) => {
  const namespace = await freshNamespace();
  const replicas = await Promise.all(Array.from({ length: 6 }, () => replica(context, namespace)));
  assert.equal(new Set(replicas.map((ca) => ca.signingRoot().id)).size, 1);
  assert.equal(new Set(replicas.map((ca) => ca.rootsPem())).size, 1);
  for (const ca of replicas)
    assert.equal(verdictOf(ca.issueWorkload(ALICE, key, DAY_MS).chain, replicas[0]?.rootsPem()), 'leaf: OK');
});

test('so it is with replicas that are processes of their own; and nothing they print or show holds a key', async () => {
  const namespace = await freshNamespace();
  const child = join(ROOT, 'test', 'support', 'ca-replica-child.ts');
  const runs = Array.from({ length: 4 }, (_, index) =>
    promisify(execFile)(process.execPath, [child, api.kubeconfig, namespace, ...(index === 0 ? ['rotate'] : [])], {
      timeout: 30_000,
    }),
  );
  const outputs = await Promise.all(runs);
  assert.equal(new Set(outputs.map(({ stdout }) => /^signer (\w+)$/m.exec(stdout)?.[1])).size, 1);
  const texts = await textsOf(namespace);
  const keys = [...texts].filter(([name]) => name.includes('key') && texts.get(name) !== '');
  assert.equal(keys.length, 3, 'ca-key.pem and the keys of two roots');
  for (const { stdout, stderr } of outputs) {
    const printed = stdout + stderr;
    assert.ok(printed.includes('BEGIN CERTIFICATE'), 'it printed what it has');
    assert.doesNotMatch(printed, /PRIVATE KEY/);
    for (const [name, pem] of keys) {
      const secret = createPrivateKey(pem).export({ format: 'jwk' }).d ?? '';
      for (const form of [secret, Buffer.from(secret, 'base64url').toString('hex'), pem.split('\n')[1] ?? '']) {
        assert.ok(form.length > 20 && !printed.includes(form), `${name} is not printed`);
      }
    }
  }
});

test('the Secret is what istiod writes and reads: its type, its names, the root that signs and the bundle', async (context) => {
  const namespace = await freshNamespace();
  const ca = await replica(context, namespace);
  assert.equal((await secretOf(namespace)).type, 'istio.io/ca-root');
  const texts = await textsOf(namespace);
  const certificate = new X509Certificate(texts.get('ca-cert.pem') ?? '');
  assert.ok(certificate.checkPrivateKey(createPrivateKey(texts.get('ca-key.pem') ?? '')));
  assert.equal(texts.get('root-cert.pem'), ca.rootsPem());
  assert.equal(texts.get('cert-chain.pem'), '');
});

test('a root that istiod has made is taken over with its RSA key, and trusted roots beside it stay', async (context) => {
  const namespace = await freshNamespace();
  const [istiod, other] = [
    outsideRoot('cluster.local', { newKey: RSA, days: 3650 }),
    outsideRoot('of another cluster'),
  ];
  const bundle = istiod.certificatePem + other.certificatePem;
  await putSecret(namespace, 'istio-ca-secret', {
    'ca-cert.pem': istiod.certificatePem,
    'ca-key.pem': istiod.keyPem,
    'cert-chain.pem': '',
    'root-cert.pem': bundle,
  });
  const ca = await replica(context, namespace);
  const { chain } = ca.issueWorkload(ALICE, key, DAY_MS);
  assert.equal(verdictOf(chain, istiod.certificatePem), 'leaf: OK');
  assert.deepEqual(new Set(rootsIn(ca.rootsPem())), new Set(rootsIn(bundle)));
  assert.equal(await ca.rotate(), true);
  const texts = await textsOf(namespace);
  assert.deepEqual(rootsIn(texts.get('ca-cert.pem') ?? ''), rootsIn(istiod.certificatePem), 'istiod could go on');
  assert.equal(rootsIn(texts.get('root-cert.pem') ?? '').length, 3, 'and would hand out the successor');
});

test('a rotation by the leader is seen by all: trusted first, then signing, then alone', async (context) => {
  const namespace = await freshNamespace();
  let nowMs = Date.now();
  const options = {
    now: () => nowMs,
    policy: { rootLifetimeMs: 1000 * DAY_MS, distributionMs: 2 * DAY_MS, maxLeafLifetimeMs: 30 * DAY_MS },
  };
  const leader = await replica(context, namespace, options);
  const other = await replica(context, namespace, options);
  const old = leader.signingRoot().id;
  assert.equal(await leader.maintain(), false);
  nowMs += 801 * DAY_MS;
  assert.equal(await leader.maintain(), true);
  await eventually('the other trusts both', () => assert.equal(rootsIn(other.rootsPem()).length, 2));
  assert.equal(other.rootsPem(), leader.rootsPem());
  assert.deepEqual([leader.signingRoot().id, other.signingRoot().id], [old, old], 'before it signs');
  const before = other.issueWorkload(ALICE, key, DAY_MS).chain;

  nowMs += 3 * DAY_MS;
  const next = leader.signingRoot().id;
  assert.notEqual(next, old);
  assert.equal(other.signingRoot().id, next, 'without a word from the leader');
  for (const chain of [before, other.issueWorkload(ALICE, key, DAY_MS).chain]) {
    const { validFromDate } = new X509Certificate(chain[0] ?? '');
    assert.equal(verdictOf(chain, leader.rootsPem(), validFromDate.getTime() + 1000), 'leaf: OK');
  }
  assert.equal(await leader.maintain(), true, 'istiod is told which root signs');
  assert.deepEqual(
    rootsIn((await textsOf(namespace)).get('ca-cert.pem') ?? ''),
    rootsIn(leader.signingRoot().certificatePem),
  );
  assert.equal(await leader.maintain(), false);

  nowMs += 31 * DAY_MS;
  assert.equal(await leader.maintain(), true);
  await eventually('the old root is gone', () => assert.equal(rootsIn(other.rootsPem()).length, 1));
  assert.equal(
    [...(await textsOf(namespace)).keys()].filter((name) => name.startsWith('ambit-')).length,
    2,
    'and its key',
  );
});

test('a CA whose only root has expired while nothing ran begins with a new one', async (context) => {
  const namespace = await freshNamespace();
  let nowMs = Date.now();
  const options = { now: () => nowMs, policy: { rootLifetimeMs: 100 * DAY_MS } };
  const before = await replica(context, namespace, options);
  const old = before.signingRoot().id;
  await before.close();
  nowMs += 101 * DAY_MS;
  const after = await replica(context, namespace, options);
  assert.notEqual(after.signingRoot().id, old);
  assert.equal(await after.maintain(), false);
});

test('a leader whose clock is wrong for a while takes no root from anybody', async (context) => {
  const namespace = await freshNamespace();
  let nowMs = Date.now();
  const leader = await replica(context, namespace, { now: () => nowMs });
  const other = await replica(context, namespace);
  const old = leader.signingRoot().id;
  const { certificatePem } = leader.signingRoot();
  nowMs += 11 * 365 * DAY_MS;
  await leader.maintain();
  await leader.maintain();
  nowMs = Date.now();
  assert.deepEqual([leader.signingRoot().id, other.signingRoot().id], [old, old]);
  await eventually('both are trusted', () => assert.equal(rootsIn(other.rootsPem()).length, 2));
  assert.ok(other.rootsPem().includes(certificatePem));
});

test('two that believe to lead make one successor', async (context) => {
  const namespace = await freshNamespace();
  const replicas = await Promise.all([1, 2, 3].map(() => replica(context, namespace)));
  const outcomes = await Promise.all(replicas.map((ca) => ca.rotate()));
  assert.equal(outcomes.filter(Boolean).length, 1);
  for (const ca of replicas) assert.equal(rootsIn(ca.rootsPem()).length, 2);
});

test('a Secret that was edited to nonsense is neither used nor overwritten, and used again when it is repaired', async (context) => {
  const namespace = await freshNamespace();
  const ca = await replica(context, namespace);
  const [signer, good] = [ca.signingRoot().id, await textsOf(namespace)];
  const mistakes: [Record<string, string | null>, RegExp][] = [
    [{ 'ca-key.pem': null }, /lacks ca-key\.pem/],
    [{ 'ca-cert.pem': 'nonsense' }, /ca-cert\.pem .* is not one certificate/],
    [{ 'ambit-roots.json': '{' }, /ambit-roots\.json .* is not JSON/],
    [{ 'ambit-roots.json': null, 'ca-key.pem': outsideRoot('x').keyPem }, /do not belong together/],
    [{ 'ca-cert.pem': outsideRoot('x').certificatePem }, /is none of the roots in ambit-roots\.json/],
  ];
  for (const [texts, expected] of mistakes) {
    await edit(namespace, 'istio-ca-secret', texts);
    await eventually('it is told', () => assert.match(ca.store.problem ?? '', expected));
    assert.equal(ca.signingRoot().id, signer);
    await assert.rejects(ca.rotate(), { code: 'CONFIGURATION', message: expected });
    await assert.rejects(
      replica(context, namespace),
      { code: 'CONFIGURATION', message: expected },
      'a new replica says so',
    );
    for (const [name, text] of Object.entries(texts)) assert.equal((await textsOf(namespace)).get(name) ?? null, text);
    await edit(namespace, 'istio-ca-secret', Object.fromEntries(good));
    await eventually('all is well again', () => assert.equal(ca.store.problem, undefined));
  }
});

test('a Secret with other roots is refused while its roots do not overlap with those in use', async (context) => {
  const namespace = await freshNamespace();
  const ca = await replica(context, namespace);
  const [signer, foreign] = [ca.signingRoot(), outsideRoot('new')];
  const texts = { 'ambit-roots.json': null, 'ca-cert.pem': foreign.certificatePem, 'ca-key.pem': foreign.keyPem };
  await edit(namespace, 'istio-ca-secret', { ...texts, 'root-cert.pem': foreign.certificatePem });
  await eventually('it is refused', () => assert.match(ca.store.problem ?? '', /keep both in root-cert\.pem/));
  assert.equal(ca.signingRoot().id, signer.id);
  await edit(namespace, 'istio-ca-secret', { 'root-cert.pem': foreign.certificatePem + signer.certificatePem });
  await eventually('with overlap it is used', () => assert.equal(ca.store.problem, undefined));
  assert.equal(verdictOf(ca.issueWorkload(ALICE, key, DAY_MS).chain, foreign.certificatePem), 'leaf: OK');
  assert.equal(rootsIn(ca.rootsPem()).length, 2);
});

test('a Secret that was deleted is written again with the same roots', async (context) => {
  const namespace = await freshNamespace();
  const replicas = await Promise.all([1, 2].map(() => replica(context, namespace)));
  const before = await textsOf(namespace);
  await api.admin().delete(RESOURCES.Secret, namespace, 'istio-ca-secret');
  await eventually('it is back', async () => assert.deepEqual(await textsOf(namespace), before));
  for (const ca of replicas) assert.equal(ca.rootsPem(), before.get('root-cert.pem'));
  await eventually('and watched', () =>
    assert.deepEqual(
      replicas.map((ca) => ca.store.problem),
      [undefined, undefined],
    ),
  );
  assert.equal(await replicas[1]?.rotate(), true);
});

test('the roots of another trust domain are refused', async (context) => {
  const namespace = await freshNamespace();
  await replica(context, namespace);
  await assert.rejects(replica(context, namespace, { organization: 'other.example' }), {
    code: 'CONFIGURATION',
    message: /trust domain cluster\.local/,
  });
});

test('an API server that goes away takes nothing from a CA that is open', async (context) => {
  const namespace = await freshNamespace();
  const ca = await replica(context, namespace);
  await api.stopServer();
  try {
    assert.equal(verdictOf(ca.issueWorkload(ALICE, key, DAY_MS).chain), 'leaf: OK');
    await assert.rejects(ca.rotate(), { code: 'KUBERNETES_API' });
  } finally {
    await api.startServer();
  }
  await eventually('a rotation works again', async () => assert.equal(await ca.rotate(), true), 10_000);
});

test('a plugged-in intermediate goes before roots of our own, is replaced live, and its root only with overlap', async (context) => {
  const namespace = await freshNamespace();
  const root = outsideRoot('company root', { newKey: RSA });
  const first = outsideIntermediate(outsideIntermediate(root, 'policy CA', { newKey: RSA }), 'mesh CA 1', {
    newKey: RSA,
  });
  await putSecret(namespace, 'cacerts', pluginTexts(first, root.certificatePem));
  const ca = await anyReplica(context, namespace);
  const issue = (): readonly string[] => ca.issueWorkload(ALICE, key, 90 * DAY_MS).chain;
  const chain = issue();
  assert.equal(chain.length, 4, 'leaf, two intermediates, roots');
  assert.equal(verdictOf(chain), 'leaf: OK');
  const ends = chain.map((pem) => new X509Certificate(pem).validToDate.getTime());
  assert.equal(ends[0], Math.min(...ends), 'no leaf outlives its chain');
  assert.ok((ends[0] ?? 0) < Date.now() + 11 * DAY_MS);
  assert.equal(await ca.maintain(), false);
  assert.equal(await ca.rotate(), false, 'not ours to rotate');
  assert.equal(await api.admin().find(RESOURCES.Secret, namespace, 'istio-ca-secret'), undefined);

  const second = outsideIntermediate(root, 'mesh CA 2');
  await edit(namespace, 'cacerts', pluginTexts(second, root.certificatePem));
  await eventually('the second signs', () => assert.equal(issue().length, 3));
  assert.equal(verdictOf(issue()), 'leaf: OK');

  const other = outsideRoot('another root');
  const third = outsideIntermediate(other, 'mesh CA 3');
  await edit(namespace, 'cacerts', pluginTexts(third, other.certificatePem));
  await eventually('it is refused', () => assert.match(ca.store.problem ?? '', /lack the one that signs now/));
  assert.equal(verdictOf(issue(), root.certificatePem), 'leaf: OK');
  for (const [name, expected] of [
    ['ca-key.pem', /ca-key\.pem missing/],
    ['root-cert.pem', /root-cert\.pem missing/],
  ] as const) {
    await edit(namespace, 'cacerts', { ...pluginTexts(second, root.certificatePem), [name]: null });
    await eventually(`without ${name}`, () => assert.match(ca.store.problem ?? '', expected));
  }
  await edit(namespace, 'cacerts', pluginTexts(third, other.certificatePem + root.certificatePem));
  await eventually('with overlap it is used', () => assert.equal(verdictOf(issue(), other.certificatePem), 'leaf: OK'));
  assert.equal(ca.store.problem, undefined);
  await api.admin().delete(RESOURCES.Secret, namespace, 'cacerts');
  await eventually('what is gone is told', () => assert.match(ca.store.problem ?? '', /there is no CA/));
  assert.equal(verdictOf(issue()), 'leaf: OK');
});

test('a plugged-in CA that is not whole keeps the control plane from starting, and says what is missing', async (context) => {
  const namespace = await freshNamespace();
  const [root, other] = [outsideRoot('r'), outsideRoot('o')];
  const good = pluginTexts(outsideIntermediate(root, 'i'), root.certificatePem);
  await putSecret(namespace, 'cacerts', { 'ca-cert.pem': good['ca-cert.pem'] ?? '' });
  await assert.rejects(anyReplica(context, namespace), {
    code: 'CONFIGURATION',
    message: /ca-key\.pem and root-cert\.pem missing/,
  });
  await edit(namespace, 'cacerts', { ...good, 'root-cert.pem': other.certificatePem });
  await assert.rejects(anyReplica(context, namespace), {
    code: 'CONFIGURATION',
    message: /do not lead from ca-cert\.pem to a root/,
  });
});
