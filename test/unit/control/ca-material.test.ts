/** CAs that are plugged in, the Secret that istiod shares with us, overlap of roots, and what is never shown of a key. */
import assert from 'node:assert/strict';
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { CertificateAuthority } from '../../../control/ca/authority.ts';
import { findMissingOverlap, outrunsDistribution } from '../../../control/ca/overlap.ts';
import { readPluginMaterial } from '../../../control/ca/plugin-material.ts';
import { PluginRootStore } from '../../../control/ca/plugin-root-store.ts';
import { PluginFolder } from '../../../control/ca/plugin-source.ts';
import { makeRoot } from '../../../control/ca/root-list.ts';
import { type CaMaterial, CLOCK_SKEW_MS, NO_MATERIAL } from '../../../control/ca/root-store.ts';
import { ROTATION_POLICY } from '../../../control/ca/rotation.ts';
import { caSecretData, readCaSecret } from '../../../control/ca/secret-layout.ts';
import { formatSpiffeId } from '../../../core/spiffe.ts';
import { opensslVerify } from '../../support/certificate-request.ts';
import { temporaryFolder } from '../../support/control.ts';
import { eventually } from '../../support/eventually.ts';
import {
  outsideIntermediate,
  outsideRoot,
  pluginTexts,
  RSA,
  revocationList,
  writePlugin,
} from '../../support/plugged-ca.ts';

const DAY_MS = 86_400_000;
const ALICE = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'alice' });
const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
const P384 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384'];

const root = outsideRoot('root', { newKey: RSA });
const stranger = outsideRoot('stranger');
const policyCa = outsideIntermediate(root, 'policy', { newKey: P384 });
const mesh = outsideIntermediate(policyCa, 'mesh', { newKey: RSA });
const good = pluginTexts(mesh, root.certificatePem);
const NOW = Date.now();

const read = (texts: Readonly<Record<string, string>>, nowMs = NOW): CaMaterial | undefined =>
  readPluginMaterial(new Map(Object.entries(texts)), 'the folder', nowMs);

/** Signs a leaf with the material and lets OpenSSL judge the whole chain. */
async function verdictOf(material: CaMaterial | undefined): Promise<string> {
  assert.ok(material !== undefined);
  const store = {
    description: '',
    problem: undefined,
    rotating: undefined,
    material,
    onChange: () => () => undefined,
    open: async () => undefined,
    close: async () => undefined,
  };
  const { chain } = new CertificateAuthority(store, ROTATION_POLICY).issueWorkload(ALICE, key, DAY_MS);
  return opensslVerify(chain.at(-1) ?? '', chain[0] ?? '', ['-purpose', 'sslclient'], chain.slice(1, -1).join(''));
}

const WHOLE: [name: string, texts: Record<string, string>, intermediates: number][] = [
  ['as Istio names it', good, 2],
  ['with a chain that also holds the root', { ...good, 'cert-chain.pem': mesh.certificatePem + mesh.above }, 2],
  ['with a chain in another order', { ...good, 'cert-chain.pem': root.certificatePem + policyCa.certificatePem }, 2],
  [
    'as a TLS Secret',
    { 'tls.crt': mesh.certificatePem + policyCa.certificatePem, 'tls.key': mesh.keyPem, 'ca.crt': root.certificatePem },
    2,
  ],
  [
    'an intermediate right below the root, without a chain',
    { 'ca-cert.pem': policyCa.certificatePem, 'ca-key.pem': policyCa.keyPem, 'root-cert.pem': root.certificatePem },
    1,
  ],
  [
    'a root itself',
    { 'ca-cert.pem': root.certificatePem, 'ca-key.pem': root.keyPem, 'root-cert.pem': root.certificatePem },
    0,
  ],
  ['among several roots', { ...good, 'root-cert.pem': stranger.certificatePem + root.certificatePem }, 2],
  ['with a revocation list', { ...good, 'ca-crl.pem': revocationList(mesh, ['AB']) + revocationList(root, []) }, 2],
];
for (const [name, texts, intermediates] of WHOLE) {
  test(`plugged in: ${name}`, async () => {
    const material = read(texts);
    assert.equal(material?.signers[0]?.chain.length, intermediates);
    assert.equal(await verdictOf(material), 'leaf: OK');
  });
}

const drop = (...names: string[]): Record<string, string> =>
  Object.fromEntries(Object.entries(good).filter(([name]) => !names.includes(name)));
const leaf = new X509Certificate(mesh.certificatePem);
const NOT_WHOLE: [name: string, texts: Record<string, string>, expected: RegExp][] = [
  ['no key', drop('ca-key.pem'), /the folder is not whole: ca-key\.pem missing/],
  ['an empty root', { ...good, 'root-cert.pem': ' \n' }, /root-cert\.pem missing/],
  ['only a root', drop('ca-cert.pem', 'ca-key.pem'), /ca-cert\.pem and ca-key\.pem missing/],
  ['half a TLS Secret', { 'tls.crt': mesh.certificatePem }, /tls\.key and ca\.crt missing/],
  ['no intermediate between', drop('cert-chain.pem'), /do not lead from ca-cert\.pem to a root/],
  ['the root of somebody else', { ...good, 'root-cert.pem': stranger.certificatePem }, /do not lead/],
  ['the key of somebody else', { ...good, 'ca-key.pem': stranger.keyPem }, /do not belong together/],
  ['a key that is none', { ...good, 'ca-key.pem': 'hello' }, /ca-key\.pem in the folder is not a private key/],
  ['a certificate that is cut', { ...good, 'ca-cert.pem': mesh.certificatePem.slice(0, 300) }, /damaged certificate/],
  [
    'a certificate that is nonsense',
    { ...good, 'ca-cert.pem': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' },
    /certificate 1 of ca-cert\.pem .* cannot be read/,
  ],
  ['no certificate in the file', { ...good, 'ca-cert.pem': 'hello' }, /holds no certificate/],
  [
    'a revocation list of a stranger',
    { ...good, 'ca-crl.pem': revocationList(stranger, []) },
    /no CA of the chain .* has signed it/,
  ],
  ['a revocation list that is none', { ...good, 'ca-crl.pem': 'hello' }, /something else than revocation lists/],
];
for (const [name, texts, expected] of NOT_WHOLE) {
  test(`plugged in, but refused: ${name}`, () => {
    assert.throws(() => read(texts), { code: 'CONFIGURATION', message: expected });
    try {
      read(texts);
    } catch (thrown) {
      assert.doesNotMatch(inspect(thrown), /PRIVATE KEY/);
    }
  });
}

test('nothing at all is no CA; one whose time is over or has not come is refused', () => {
  assert.equal(read({ 'other.txt': 'x' }), undefined);
  assert.throws(() => read(good, leaf.validToDate.getTime() + 1), {
    code: 'CONFIGURATION',
    message: /valid from .* only, not now/,
  });
  assert.throws(() => read(good, leaf.validFromDate.getTime() - 2 * CLOCK_SKEW_MS), { code: 'CONFIGURATION' });
});

test('a mounted folder is read again when the mount is replaced in one step, and a half written one is not used', async (context) => {
  const folder = temporaryFolder(context);
  const mount = join(folder, 'mount');
  writePlugin(mount, {});
  // As a kubelet mounts it: names lead over one link, which is exchanged.
  const put = (version: string, texts: Record<string, string>): void => {
    writePlugin(join(mount, version), texts);
    symlinkSync(version, join(mount, '..data_tmp'));
    renameSync(join(mount, '..data_tmp'), join(mount, '..data'));
  };
  put('..1', good);
  for (const name of Object.keys(good)) symlinkSync(join('..data', name), join(mount, name));
  const store = new PluginRootStore(new PluginFolder(mount));
  context.after(() => store.close());
  await store.open();
  let changes = 0;
  store.onChange(() => changes++);
  const first = store.material.signers[0]?.id;
  const next = outsideIntermediate(root, 'mesh 2');
  put('..2', pluginTexts(next, root.certificatePem));
  await eventually('the next signs', () => assert.notEqual(store.material.signers[0]?.id, first));
  assert.equal(changes, 1);
  const second = store.material;
  put('..3', { ...pluginTexts(next, root.certificatePem), 'ca-key.pem': '' });
  await eventually('it is told', () => assert.match(store.problem ?? '', /ca-key\.pem missing/));
  assert.equal(store.material, second);
  rmSync(mount, { recursive: true });
  assert.equal(store.material, second);
});

const material = (...pems: string[]): CaMaterial => ({ signers: [], rootsPem: pems.join(''), crlPem: undefined });

test('roots may change with overlap only, and a root that signs before it was known is noticed', () => {
  const [a, b] = [makeRoot('cluster.local', DAY_MS, NOW, NOW), makeRoot('cluster.local', DAY_MS, NOW, NOW)];
  const signedBy = (signer: typeof a, ...trusted: (typeof a)[]): CaMaterial => ({
    ...material(...trusted.map((one) => one.certificatePem)),
    signers: [signer],
  });
  assert.equal(findMissingOverlap(NO_MATERIAL, signedBy(a, a), NOW), undefined);
  assert.equal(findMissingOverlap(signedBy(a, a), signedBy(b, b, a), NOW), undefined);
  assert.match(findMissingOverlap(signedBy(a, a), signedBy(b, b), NOW) ?? '', /keep both in root-cert\.pem/);
  assert.equal(
    findMissingOverlap(signedBy(a, a), signedBy(b, b), NOW + 2 * DAY_MS),
    undefined,
    'nobody is lost: it has expired',
  );
  assert.equal(outrunsDistribution(signedBy(a, a), signedBy(b, b, a), NOW), true);
  assert.equal(outrunsDistribution(signedBy(a, a, b), signedBy(b, b, a), NOW), false);
});

test('what is written to the Secret is what is read from it', () => {
  const roots = [makeRoot('cluster.local', DAY_MS, NOW - 5, NOW), makeRoot('cluster.local', DAY_MS, NOW + 60_000, NOW)];
  const extraRoots = [new X509Certificate(stranger.certificatePem).toString()];
  const data = caSecretData({ roots, extraRoots }, 'cluster.local', NOW, {
    others: 'eA==',
    'ambit-0123456789abcdef.key.pem': 'b2xk',
  });
  assert.equal(data.others, 'eA==', 'what others keep in it stays');
  assert.equal(data['ambit-0123456789abcdef.key.pem'], undefined, 'the key of a root that went goes');
  const content = readCaSecret({ data }, 'cluster.local', 'the Secret');
  assert.deepEqual(
    content.roots.map(({ id, signsFromMs }) => [id, signsFromMs]),
    roots.map(({ id, signsFromMs }) => [id, signsFromMs]),
  );
  assert.deepEqual(content.extraRoots, extraRoots);
  assert.equal(content.announcedPem, roots[0]?.certificatePem);
  assert.ok(
    content.roots[1]?.issuer.privateKey.equals(
      createPrivateKey(Buffer.from(data[`ambit-${roots[1]?.id}.key.pem`] ?? '', 'base64')),
    ),
  );
});

test('a root that istiod renewed under the same key keeps its place', () => {
  const first = outsideRoot('cluster.local', { newKey: RSA, days: 2 });
  const secret = (pem: string, more: Record<string, string> = {}): unknown => ({
    data: { ...more, 'ca-cert.pem': base64(pem), 'ca-key.pem': base64(first.keyPem), 'root-cert.pem': base64(pem) },
  });
  const adopted = readCaSecret(secret(first.certificatePem), 'cluster.local', 'the Secret');
  const data = caSecretData(adopted, 'cluster.local', NOW);
  const renewed = {
    ...first,
    certificatePem: outsideRoot('cluster.local', { key: first.keyPem, days: 9 }).certificatePem,
  };
  const content = readCaSecret(secret(renewed.certificatePem, data), 'cluster.local', 'the Secret');
  assert.equal(content.roots.length, 1);
  assert.equal(content.roots[0]?.signsFromMs, adopted.roots[0]?.signsFromMs);
  assert.ok((content.roots[0]?.notAfterMs ?? 0) > NOW + 8 * DAY_MS);
});

test('no way of printing the material shows a key', () => {
  const roots = [makeRoot('cluster.local', DAY_MS, NOW, NOW)];
  const all = { roots, plugged: read(good) };
  const printed =
    JSON.stringify(all) + inspect(all, { depth: 20, showHidden: true }) + String(all.roots[0]?.issuer.privateKey);
  assert.doesNotMatch(printed, /PRIVATE KEY/);
  for (const pem of [
    roots[0]?.issuer.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() ?? '',
    mesh.keyPem,
  ]) {
    const secret = createPrivateKey(pem).export({ format: 'jwk' }).d ?? '';
    for (const form of [secret, Buffer.from(secret, 'base64url').toString('hex'), pem.split('\n')[1] ?? ''])
      assert.ok(!printed.includes(form));
  }
});

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
