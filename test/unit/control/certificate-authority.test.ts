/** Roots, leaves and their rotation: what OpenSSL and node:crypto say of them, and what survives a restart. */
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CertificateAuthority } from '../../../control/ca/authority.ts';
import { FileRootStore } from '../../../control/ca/file-root-store.ts';
import { ROTATION_POLICY, type RotationPolicy } from '../../../control/ca/rotation.ts';
import { formatSpiffeId } from '../../../core/spiffe.ts';
import { opensslVerify } from '../../support/certificate-request.ts';
import { temporaryFolder } from '../../support/control.ts';

const DAY_MS = 86_400_000;
const START_MS = Date.now();
const ALICE = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'alice' });
const ecKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
const rsaKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;

async function authority(
  folder: string,
  now: () => number = () => START_MS,
  policy: RotationPolicy = ROTATION_POLICY,
): Promise<CertificateAuthority> {
  const ca = new CertificateAuthority(new FileRootStore(folder, 'cluster.local'), policy, now);
  await ca.open();
  await ca.maintain();
  return ca;
}

function leafOf(chain: readonly string[]): X509Certificate {
  return new X509Certificate(chain[0] ?? '');
}

function rootsOf(pem: string): X509Certificate[] {
  return pem
    .split(/(?<=-----END CERTIFICATE-----\n)/)
    .filter((text) => text !== '')
    .map((text) => new X509Certificate(text));
}

for (const [name, key] of [
  ['EC', ecKey],
  ['RSA', rsaKey],
] as const) {
  test(`a leaf for an ${name} key is a SPIFFE certificate that OpenSSL accepts for both ends`, async (context) => {
    const ca = await authority(temporaryFolder(context));
    const issued = ca.issueWorkload(ALICE, key, DAY_MS);
    assert.equal(issued.chain.length, 2, 'leaf, then the roots');
    const leaf = leafOf(issued.chain);
    const [root] = rootsOf(issued.chain[1] ?? '');
    assert.ok(root !== undefined && leaf.checkIssued(root) && leaf.verify(root.publicKey));
    assert.ok(leaf.publicKey.equals(createPublicKey(key.export({ type: 'spki', format: 'pem' }))));
    assert.equal(leaf.subjectAltName, `URI:${ALICE}`);
    assert.equal(leaf.subject, undefined, 'no subject');
    assert.equal(leaf.ca, false);
    assert.equal(leaf.serialNumber, issued.serial);
    assert.equal(leaf.validToDate.getTime(), Math.floor((START_MS + DAY_MS) / 1000) * 1000);
    assert.ok(leaf.validFromDate.getTime() <= START_MS - 119_000, 'two minutes of patience with clocks');
    for (const purpose of ['sslserver', 'sslclient']) {
      assert.equal(opensslVerify(issued.chain[1] ?? '', issued.chain[0] ?? '', ['-purpose', purpose]), 'leaf: OK');
    }
  });
}

test('serial numbers are 16 random bytes', async (context) => {
  const ca = await authority(temporaryFolder(context));
  const serials = new Set(Array.from({ length: 50 }, () => ca.issueWorkload(ALICE, ecKey, DAY_MS).serial));
  assert.equal(serials.size, 50);
  for (const serial of serials) assert.match(serial, /^[4-7][0-9A-F]{31}$/);
});

test('a leaf never outlives its root', async (context) => {
  const policy = { ...ROTATION_POLICY, rootLifetimeMs: DAY_MS, renewalShare: 0 };
  const ca = await authority(temporaryFolder(context), () => START_MS, policy);
  const issued = ca.issueWorkload(ALICE, ecKey, 90 * DAY_MS);
  const [root] = rootsOf(issued.chain[1] ?? '');
  assert.equal(leafOf(issued.chain).validToDate.getTime(), root?.validToDate.getTime());
});

test('the root is kept over a restart, keys are for the owner alone, the bundle is public', async (context) => {
  const folder = temporaryFolder(context);
  const first = (await authority(folder)).rootsPem();
  assert.equal((await authority(folder)).rootsPem(), first);
  assert.equal(readFileSync(join(folder, 'root-cert.pem'), 'utf8'), first);
  const modes = Object.fromEntries(
    readdirSync(join(folder, 'ca')).map((name) => [
      name.replace(/^[0-9a-f]{16}/, 'id'),
      mode(join(folder, 'ca', name)),
    ]),
  );
  assert.deepEqual(modes, { 'id.key.pem': '600', 'roots.json': '600' });
  assert.equal(mode(join(folder, 'ca')), '700');
  assert.equal(mode(join(folder, 'root-cert.pem')), '644');
});

test('a key that others could read is closed again', async (context) => {
  const folder = temporaryFolder(context);
  await authority(folder);
  const key = join(folder, 'ca', keyFile(folder));
  chmodSync(key, 0o644);
  await authority(folder);
  assert.equal(mode(key), '600');
});

const DAMAGE: [name: string, damage: (folder: string) => void][] = [
  ['its list is cut', (folder) => writeFileSync(join(folder, 'ca/roots.json'), '{"version":1,')],
  ['its list has another form', (folder) => writeFileSync(join(folder, 'ca/roots.json'), '{"version":2}')],
  ['a key is missing', (folder) => rmSync(join(folder, 'ca', keyFile(folder)))],
  ['a key is not one', (folder) => writeFileSync(join(folder, 'ca', keyFile(folder)), 'x')],
  [
    'a key belongs to another certificate',
    (folder) => {
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      writeFileSync(join(folder, 'ca', keyFile(folder)), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    },
  ],
];
for (const [name, damage] of DAMAGE) {
  test(`the CA does not start, and makes no new root, when ${name}`, async (context) => {
    const folder = temporaryFolder(context);
    await authority(folder);
    damage(folder);
    const before = readdirSync(join(folder, 'ca')).sort();
    await assert.rejects(authority(folder), (thrown: unknown) => {
      assert.ok(thrown instanceof Error && 'code' in thrown && thrown.code === 'CONFIGURATION');
      assert.doesNotMatch(thrown.message, /PRIVATE KEY/);
      return true;
    });
    assert.deepEqual(readdirSync(join(folder, 'ca')).sort(), before);
  });
}

test('the roots of another trust domain are refused', async (context) => {
  const folder = temporaryFolder(context);
  await authority(folder);
  const other = new CertificateAuthority(new FileRootStore(folder, 'other.example'), ROTATION_POLICY);
  await assert.rejects(other.open(), { code: 'CONFIGURATION', message: /trust domain cluster.local/ });
});

test('rotation: the new root is in every bundle before it signs, the old one until its leaves are gone', async (context) => {
  const folder = temporaryFolder(context);
  let now = START_MS;
  const policy = {
    ...ROTATION_POLICY,
    rootLifetimeMs: 1000 * DAY_MS,
    distributionMs: 2 * DAY_MS,
    maxLeafLifetimeMs: 30 * DAY_MS,
  };
  let ca = await authority(folder, () => now, policy);
  const old = ca.signingRoot().id;
  const issue = (): { signer: X509Certificate | undefined; roots: X509Certificate[] } => {
    const { chain } = ca.issueWorkload(ALICE, ecKey, DAY_MS);
    const roots = rootsOf(chain.at(-1) ?? '');
    return { signer: roots.find((root) => leafOf(chain).verify(root.publicKey)), roots };
  };
  assert.equal(await ca.maintain(), false, 'a young root is left alone');

  now += 801 * DAY_MS;
  assert.equal(await ca.maintain(), true, 'four fifths of its life are over');
  assert.equal(issue().roots.length, 2, 'the new root is distributed');
  assert.equal(ca.signingRoot().id, old, 'and does not sign yet');
  assert.equal(await ca.maintain(), false);
  assert.equal(readFileSync(join(folder, 'root-cert.pem'), 'utf8'), ca.rootsPem());

  ca = await authority(folder, () => now, policy);
  assert.equal(ca.signingRoot().id, old, 'a restart changes nothing');

  now += 2 * DAY_MS + 1000;
  assert.notEqual(ca.signingRoot().id, old, 'the time of distribution is over');
  const during = issue();
  assert.equal(during.signer?.fingerprint256, during.roots[1]?.fingerprint256);
  assert.equal(await ca.maintain(), false, 'the old root stays: leaves of it live');

  now += 30 * DAY_MS;
  assert.equal(await ca.maintain(), true, 'every leaf of the old root has expired');
  assert.equal(issue().roots.length, 1);
  assert.equal(
    readdirSync(join(folder, 'ca')).filter((name) => name.endsWith('.key.pem')).length,
    1,
    'its key is gone',
  );
});

test('an operator can begin a rotation, once at a time', async (context) => {
  const ca = await authority(temporaryFolder(context));
  assert.equal(await ca.rotate(), true);
  assert.equal(rootsOf(ca.rootsPem()).length, 2);
  assert.equal(await ca.rotate(), false);
});

test('peers with either bundle trust each other in the middle of a rotation', async (context) => {
  let now = START_MS;
  const ca = await authority(temporaryFolder(context), () => now, { ...ROTATION_POLICY, distributionMs: 60_000 });
  const before = ca.issueWorkload(ALICE, ecKey, DAY_MS).chain;
  await ca.rotate();
  const announced = ca.issueWorkload(ALICE, ecKey, DAY_MS).chain;
  now += 61_000;
  const after = ca.issueWorkload(ALICE, ecKey, DAY_MS).chain;
  const trusts = (bundle: readonly string[], leaf: readonly string[]): string =>
    opensslVerify(bundle.at(-1) ?? '', leaf[0] ?? '');
  for (const bundle of [before, announced, after])
    for (const leaf of [before, announced]) assert.equal(trusts(bundle, leaf), 'leaf: OK');
  for (const bundle of [announced, after]) assert.equal(trusts(bundle, after), 'leaf: OK');
  assert.notEqual(trusts(before, after), 'leaf: OK', 'that is why a root is distributed before it signs');
});

test('a server certificate carries its names and addresses', async (context) => {
  const ca = await authority(temporaryFolder(context));
  const issued = ca.issueServer(
    [
      { kind: 'dns', value: 'istiod.istio-system.svc' },
      { kind: 'ip', value: '10.0.0.1' },
      { kind: 'ip', value: 'fd00::1' },
    ],
    DAY_MS,
  );
  const certificate = new X509Certificate(issued.certificatePem);
  assert.equal(certificate.checkHost('istiod.istio-system.svc'), 'istiod.istio-system.svc');
  assert.equal(certificate.checkIP('10.0.0.1'), '10.0.0.1');
  assert.equal(certificate.checkIP('fd00::1'), 'fd00::1');
  assert.equal(
    opensslVerify(ca.rootsPem(), issued.certificatePem, ['-purpose', 'sslserver', '-verify_ip', '10.0.0.1']),
    'leaf: OK',
  );
});

function keyFile(folder: string): string {
  const name = readdirSync(join(folder, 'ca')).find((candidate) => candidate.endsWith('.key.pem'));
  if (name === undefined) throw new Error('no key');
  return name;
}

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8);
}
