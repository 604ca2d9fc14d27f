/** Revocation lists as the agent reads them: lists of OpenSSL, damaged ones, and the file that is looked at again. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type KnownRevocations, RevocationFile } from '../../../agent/state/revocation-file.ts';
import { AmbitError } from '../../../core/errors.ts';
import { certificateKey, Revocations, readRevocations } from '../../../hbone/revocation.ts';
import { temporaryFolder } from '../../support/control.ts';
import { eventually } from '../../support/eventually.ts';
import { outsideIntermediate, outsideRoot, RSA, revocationList } from '../../support/plugged-ca.ts';

const root = outsideRoot('root', { newKey: RSA });
const middle = outsideIntermediate(root, 'middle');
const leaf = outsideIntermediate(middle, 'leaf');
const der = (pem: string): Buffer => Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
const raw = (pem: string): Uint8Array => new X509Certificate(pem).raw;
const serial = (pem: string): string => new X509Certificate(pem).serialNumber;
const CHAIN = [raw(leaf.certificatePem), raw(middle.certificatePem)];

function verdict(...lists: string[]): AmbitError | undefined {
  const revocations = new Revocations();
  revocations.set(readRevocations(Buffer.from(lists.join('\n'))), undefined);
  return revocations.check(CHAIN);
}

test('a leaf and an intermediate are found by issuer and number, others are not', () => {
  assert.equal(verdict(''), undefined);
  assert.equal(verdict(revocationList(middle, []), revocationList(root, ['1234'])), undefined);
  assert.match(
    verdict(revocationList(middle, ['01', serial(leaf.certificatePem)]))?.message ?? '',
    /the certificate of the peer/,
  );
  const above = verdict(revocationList(middle, []), revocationList(root, [serial(middle.certificatePem)]));
  assert.equal(above?.code, 'CERT_REVOKED');
  assert.match(above?.message ?? '', /a CA of the peer/);
  assert.equal(verdict(revocationList(root, [serial(leaf.certificatePem)])), undefined, 'the number of another CA');
});

test('a list is read as PEM and as DER; other blocks in the file are skipped', () => {
  const list = revocationList(middle, ['00AB', 'FF01']);
  const keys = readRevocations(Buffer.from(list));
  assert.equal(keys.length, 2);
  assert.deepEqual(readRevocations(der(list)), keys);
  assert.deepEqual(readRevocations(Buffer.from(root.certificatePem + list + revocationList(root, []))), keys);
  assert.deepEqual(readRevocations(Buffer.from(' \n')), []);
  const issuer = certificateKey(raw(leaf.certificatePem)).split(' ')[0];
  assert.deepEqual(keys, [`${issuer} ab`, `${issuer} ff01`]);
});

const good = revocationList(middle, ['AB']);
const DAMAGED: [name: string, file: Buffer][] = [
  ['text', Buffer.from('hello')],
  ['a certificate alone', Buffer.from(root.certificatePem)],
  ['a list that is cut', Buffer.from(good.slice(0, -30))],
  ['a good list and one that is cut', Buffer.from(good + good.slice(0, -30))],
  ['PEM around nonsense', Buffer.from('-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n')],
  ['DER that is cut', der(good).subarray(0, 90)],
  ['DER with bytes behind', Buffer.concat([der(good), Buffer.of(0)])],
  ['lengths that lie', Buffer.from('3084ffffffff30', 'hex')],
  ['nine megabytes', Buffer.alloc(9 << 20, 0x41)],
];
for (const [name, file] of DAMAGED) {
  test(`not a file of revocation lists: ${name}`, () => {
    assert.throws(() => readRevocations(file), { code: 'DECODE' });
  });
}

test('any bytes and any mutation of a list give keys or DECODE, and any chain a verdict', () => {
  const check = (bytes: Uint8Array): void => {
    try {
      readRevocations(bytes);
    } catch (thrown) {
      assert.ok(thrown instanceof AmbitError && thrown.code === 'DECODE', String(thrown));
    }
  };
  const original = der(good);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), check), { numRuns: 1000 });
  const change = fc.tuple(fc.nat(original.length - 1), fc.integer({ min: 0, max: 255 }));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const bytes = Buffer.from(original);
      for (const [at, value] of changes) bytes[at] = value;
      check(bytes);
    }),
    { numRuns: 1000 },
  );
  const revocations = new Revocations();
  revocations.set(['x'], undefined);
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 100 })), (chain) => {
      const error = revocations.check(chain);
      assert.ok(error === undefined || error.code === 'CERT_REVOKED');
    }),
  );
});

test('while it is not known what is revoked, and for certificates that cannot be read, nobody is believed', () => {
  const revocations = new Revocations();
  revocations.set([], 'damaged');
  assert.match(revocations.check(CHAIN)?.message ?? '', /it is not known what is revoked: damaged/);
  revocations.set(['x y'], undefined);
  assert.equal(revocations.check(CHAIN), undefined);
  assert.equal(revocations.check([Buffer.from('nonsense')])?.code, 'CERT_REVOKED');
});

test('the file is seen when a mount is exchanged; damage keeps what was good, and before that believes nobody', async (context) => {
  const folder = temporaryFolder(context);
  const path = join(folder, 'ca-crl.pem');
  const put = (version: string, text: string): void => {
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, 'ca-crl.pem'), text);
    symlinkSync(version, join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
  };
  const told: KnownRevocations[] = [];
  const follow = (): RevocationFile => new RevocationFile(path, (known) => told.push(known), 5);

  const missing = follow();
  assert.deepEqual(told, [{ keys: [], problem: undefined }], 'told before anything is served');
  symlinkSync(join('..data', 'ca-crl.pem'), path);
  put('1', 'damaged');
  await eventually('nobody is believed', () => assert.match(told.at(-1)?.problem ?? '', /no revocation list/));
  put('2', good);
  await eventually('it is good', () =>
    assert.deepEqual(told.at(-1), { keys: readRevocations(Buffer.from(good)), problem: undefined }),
  );
  const count = told.length;
  put('3', 'damaged again');
  put('4', revocationList(middle, ['AB', 'CD']));
  await eventually('the next good one', () => assert.equal(told.at(-1)?.keys.length, 2));
  assert.equal(told.length, count + 1, 'the damaged one between changed nothing');
  rmSync(path);
  missing.close();
  assert.equal(told.at(-1)?.keys.length, 2);

  writeFileSync(path, 'damaged');
  told.length = 0;
  const damaged = follow();
  damaged.close();
  assert.match(told[0]?.problem ?? '', /no revocation list/);
});
