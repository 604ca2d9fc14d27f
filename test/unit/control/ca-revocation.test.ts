/** Revocation lists, certificates of callers, and what is written to a cluster about the CA. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { callerOfCertificate } from '../../../control/authentication/client-certificate.ts';
import { signLeaf, signRoot } from '../../../control/ca/certificate.ts';
import { parseCertificates } from '../../../control/ca/issuer-certificate.ts';
import { findRevocation, parseRevocationLists } from '../../../control/ca/revocation-list.ts';
import {
  configMapOf,
  isAsWanted,
  isTrustBundleAsWanted,
  REVOCATIONS_TEXT,
  ROOTS_TEXT,
  readConfigMap,
  readNamespace,
  receivesRoots,
  trustBundleOf,
} from '../../../control/ca/trust-distribution.ts';
import { AmbitError } from '../../../core/errors.ts';
import { RESOURCES } from '../../../kube/resource.ts';
import { createAuthority } from '../../support/pki.ts';
import { type OutsideCa, outsideIntermediate, outsideRoot, RSA, revocationList } from '../../support/plugged-ca.ts';

const root = outsideRoot('root', { newKey: RSA });
const other = outsideRoot('other');
const middle = outsideIntermediate(root, 'middle');
const leafCa = outsideIntermediate(middle, 'leaf');
const authorities = parseCertificates(root.certificatePem + middle.certificatePem, 'the CAs');
const certificateOf = (ca: OutsideCa): X509Certificate => new X509Certificate(ca.certificatePem);
const serialOf = (ca: OutsideCa): string => certificateOf(ca).serialNumber;
const listsOf = (pem: string) => parseRevocationLists(pem, authorities, 'the file');

test('a certificate is revoked by its own issuer, or with a CA above it', () => {
  const leaf = certificateOf(leafCa);
  assert.equal(findRevocation(leaf, listsOf(''), authorities), undefined);
  assert.equal(findRevocation(leaf, listsOf(revocationList(middle, ['77'])), authorities), undefined);
  const own = revocationList(middle, ['01', serialOf(leafCa), '77']);
  assert.match(
    findRevocation(leaf, listsOf(own), authorities) ?? '',
    new RegExp(`revoked \\(serial ${serialOf(leafCa).replace(/^0+/, '')}\\)`),
  );
  const above = revocationList(root, [serialOf(middle)]);
  assert.match(findRevocation(leaf, listsOf(own.slice(0, 0) + above), authorities) ?? '', /revoked/);
  assert.equal(
    findRevocation(leaf, listsOf(revocationList(root, [serialOf(leafCa)])), authorities),
    undefined,
    'numbers of another CA',
  );
  assert.equal(
    findRevocation(certificateOf(other), listsOf(own + above), authorities),
    undefined,
    'a certificate of strangers',
  );
});

test('lists are read together, with entries and without, and tell when the next is due', () => {
  const lists = listsOf(revocationList(root, []) + revocationList(middle, ['0A', 'FF00']));
  assert.deepEqual(
    lists.map(({ serials }) => [...serials]),
    [[], ['A', 'FF00']],
  );
  for (const { nextUpdateMs = 0 } of lists) assert.ok(Math.abs(nextUpdateMs - Date.now() - 7 * 86_400_000) < 60_000);
});

const good = revocationList(middle, ['AB']);
const der = Buffer.from(good.replace(/-----[^-]+-----|\s/g, ''), 'base64');
const pemOf = (bytes: Uint8Array): string =>
  `-----BEGIN X509 CRL-----\n${Buffer.from(bytes).toString('base64')}\n-----END X509 CRL-----\n`;
const DAMAGED: [name: string, pem: string, expected: RegExp][] = [
  ['of a stranger', revocationList(other, []), /list 1 of the file: no CA/],
  ['the second of a stranger', good + revocationList(other, []), /list 2 of the file/],
  ['text', 'hello', /something else/],
  ['a certificate', root.certificatePem, /something else/],
  ['cut off', good.slice(0, -40), /something else/],
  ['with a byte changed', pemOf(Buffer.from(der).fill(0x41, 120, 121)), /list 1/],
  ['cut inside', pemOf(der.subarray(0, 100)), /list 1/],
  ['empty', pemOf(Buffer.of(0x30, 0)), /list 1/],
  ['with bytes behind', pemOf(Buffer.concat([der, Buffer.of(0)])), /list 1/],
];
for (const [name, pem, expected] of DAMAGED) {
  test(`a revocation list is refused: ${name}`, () => {
    assert.throws(() => listsOf(pem), { code: 'CONFIGURATION', message: expected });
  });
}

test('any bytes and any mutation of a list give lists or CONFIGURATION', () => {
  const check = (pem: string): void => {
    try {
      listsOf(pem);
    } catch (thrown) {
      assert.ok(thrown instanceof AmbitError && thrown.code === 'CONFIGURATION', String(thrown));
    }
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => check(pemOf(bytes))),
    { numRuns: 500 },
  );
  const change = fc.tuple(fc.nat(der.length - 1), fc.integer({ min: 0, max: 255 }));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      const bytes = Buffer.from(der);
      for (const [at, value] of changes) bytes[at] = value;
      check(pemOf(bytes));
    }),
    { numRuns: 500 },
  );
});

const RULES = { trustDomain: 'cluster.local', revocation: () => undefined };
const authority = createAuthority();
const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const raw = (options: Parameters<typeof authority.issue>[0]): Uint8Array =>
  new X509Certificate(authority.issue(options).certificateChainPem).raw;

test('a certificate of a workload names its caller', () => {
  const caller = callerOfCertificate(raw({ uris: [WEB] }), RULES, Date.now());
  assert.deepEqual(
    { ...caller, expiresMs: 0 },
    { namespace: 'shop', serviceAccount: 'web', node: undefined, how: 'certificate', expiresMs: 0 },
  );
  assert.ok(caller.expiresMs > Date.now());
});

const HOUR_MS = 3_600_000;
const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const caPem = signRoot(
  { name: { organization: 'x', commonName: 'y' }, ...keys },
  { notBeforeMs: Date.now() - HOUR_MS, notAfterMs: Date.now() + HOUR_MS },
).pem;
const STRANGE: [name: string, certificate: Uint8Array, expected: RegExp][] = [
  ['of another trust domain', raw({ uris: ['spiffe://other/ns/shop/sa/web'] }), /trust domain other/],
  ['with two identities', raw({ uris: [WEB, 'spiffe://cluster.local/ns/shop/sa/db'] }), /only name/],
  ['with a DNS name beside', raw({ uris: [WEB], dnsNames: ['x.example'] }), /only name/],
  ['with a DNS name alone', raw({ uris: [], dnsNames: ['x.example'] }), /only name/],
  [
    'with a name that pretends to be two',
    raw({ uris: [`${WEB}, URI:spiffe://cluster.local/ns/shop/sa/db`] }),
    /only name/,
  ],
  ['without a name', raw({ uris: [] }), /only name/],
  ['of another form', raw({ uris: ['spiffe://cluster.local/shop/web'] }), /only name/],
  ['that has expired', raw({ uris: [WEB], notAfter: new Date(Date.now() - 1000) }), /not valid now/],
  ['that comes later', raw({ uris: [WEB], notBefore: new Date(Date.now() + HOUR_MS) }), /not valid now/],
  ['of a CA', new X509Certificate(caPem).raw, /that of a CA/],
  ['that is none', Buffer.from('hello'), /cannot be read/],
];
for (const [name, certificate, expected] of STRANGE) {
  test(`a certificate names nobody: ${name}`, () => {
    assert.throws(() => callerOfCertificate(certificate, RULES, Date.now()), {
      code: 'AUTHENTICATION',
      message: expected,
    });
  });
}

test('a certificate that is revoked names nobody', () => {
  const rules = { ...RULES, revocation: () => 'revoked (serial 1)' };
  assert.throws(() => callerOfCertificate(raw({ uris: [WEB] }), rules, Date.now()), {
    code: 'AUTHENTICATION',
    message: /revoked \(serial 1\)/,
  });
});

test('leaves of an RSA issuer and of a P-384 one carry its algorithm', () => {
  for (const [pair, expected] of [
    [generateKeyPairSync('rsa', { modulusLength: 2048 }), '1.2.840.113549.1.1.11'],
    [generateKeyPairSync('ec', { namedCurve: 'P-384' }), '1.2.840.10045.4.3.3'],
  ] as const) {
    const validity = { notBeforeMs: Date.now() - HOUR_MS, notAfterMs: Date.now() + HOUR_MS };
    const issuer = { name: { organization: 'x', commonName: 'y' }, ...pair };
    const leaf = new X509Certificate(signLeaf(issuer, keys.publicKey, [{ kind: 'uri', value: WEB }], validity).pem);
    assert.ok(leaf.verify(pair.publicKey));
    assert.equal(leaf.signatureAlgorithmOid, expected);
  }
});

test('namespaces without pods of users, and those that end, get no roots', () => {
  const facts = (name: string, more: object = {}) => readNamespace({ metadata: { name }, ...more });
  const gets = (value: ReturnType<typeof facts>): boolean | undefined => value && receivesRoots(value);
  for (const name of ['default', 'kube-system', 'shop']) assert.equal(gets(facts(name)), true, name);
  for (const name of ['kube-public', 'kube-node-lease', 'local-path-storage'])
    assert.equal(gets(facts(name)), false, name);
  assert.equal(gets(facts('shop', { status: { phase: 'Terminating' } })), false);
  assert.equal(gets(readNamespace({ metadata: { name: 'shop', deletionTimestamp: '2026-01-01T00:00:00Z' } })), false);
  for (const value of [undefined, {}, { metadata: {} }, 'x']) assert.equal(readNamespace(value), undefined);
});

test('a ConfigMap is as wanted when its text and its label are', () => {
  const long = root.certificatePem.repeat(200);
  for (const distributed of [ROOTS_TEXT, REVOCATIONS_TEXT]) {
    const standing = readConfigMap(configMapOf(distributed, 'shop', long), distributed);
    assert.equal(standing?.namespace, 'shop');
    assert.equal(isAsWanted(standing, long), true);
    assert.equal(isAsWanted(standing, `${long}x`), false);
    assert.equal(isAsWanted(standing && { ...standing, labelled: false }, long), false);
  }
  assert.equal(isAsWanted(undefined, 'x'), false);
  assert.equal(isAsWanted(readConfigMap({ metadata: { name: 'x', namespace: 'y' } }, ROOTS_TEXT), ''), false);
  assert.equal(readConfigMap('x', ROOTS_TEXT), undefined);
  const bundle = trustBundleOf(RESOURCES.ClusterTrustBundle, long);
  assert.equal(isTrustBundleAsWanted(bundle, long), true);
  assert.equal(isTrustBundleAsWanted(bundle, 'x'), false);
  assert.equal(isTrustBundleAsWanted(undefined, ''), false);
});
