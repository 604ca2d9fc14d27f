/** What the CA accepts as a certificate request, and that nothing else gets through or does harm. */
import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { readCertificateRequest } from '../../../control/ca/certificate-request.ts';
import { bitString, decode, encode, integer, nothing, OID, oid, sequence } from '../../../control/ca/der.ts';
import { AmbitError } from '../../../core/errors.ts';
import { bend, makeRequest, P256, pem, type RequestKey } from '../../support/certificate-request.ts';

const rsa = (bits: number): RequestKey => ({ algorithm: 'RSA', options: [`rsa_keygen_bits:${bits}`] });

const ACCEPTED: [name: string, key: RequestKey, extra?: string[]][] = [
  ['EC P-256', P256],
  ['EC P-384 with SHA-384', { algorithm: 'EC', options: ['ec_paramgen_curve:P-384'] }, ['-subj', '/', '-sha384']],
  ['RSA 2048', rsa(2048)],
  ['RSA 3072 with SHA-512', rsa(3072), ['-subj', '/', '-sha512']],
  ['a subject and many extensions', P256, ['-subj', '/CN=admin/O=x', '-addext', 'basicConstraints=CA:TRUE']],
];
for (const [name, key, extra] of ACCEPTED) {
  test(`accepted: ${name}`, () => {
    const { csr, keyPem } = makeRequest(key, extra);
    assert.ok(readCertificateRequest(csr).equals(createPublicKey(keyPem)));
  });
}

const good = makeRequest().csr;

const REFUSED: [name: string, csr: () => string][] = [
  ['nothing', () => ''],
  ['no PEM', () => 'hello'],
  ['a certificate instead', () => good.replaceAll('CERTIFICATE REQUEST', 'CERTIFICATE')],
  ['two requests', () => good + good],
  ['a wrong signature', () => bend(good, -1)],
  ['a changed key', () => bend(good, 60)],
  ['bytes behind the request', () => pem(Buffer.concat([der(good), Buffer.of(0)]))],
  ['a request cut short', () => pem(der(good).subarray(0, 100))],
  ['empty base64', () => pem(Buffer.alloc(0))],
  ['an RSA key that is too short', () => makeRequest(rsa(1024)).csr],
  ['an RSA key that is too long', () => hugeKey(8256)],
  ['an RSA key of a hundred thousand bits', () => hugeKey(100_000)],
  ['EC P-521', () => makeRequest({ algorithm: 'EC', options: ['ec_paramgen_curve:P-521'] }).csr],
  [
    'an RSA exponent of 3',
    () => makeRequest({ algorithm: 'RSA', options: ['rsa_keygen_bits:2048', 'rsa_keygen_pubexp:3'] }).csr,
  ],
  [
    'a curve that is not accepted',
    () => makeRequest({ algorithm: 'EC', options: ['ec_paramgen_curve:secp256k1'] }).csr,
  ],
  [
    'explicit curve parameters',
    () => makeRequest({ algorithm: 'EC', options: ['ec_paramgen_curve:P-256', 'ec_param_enc:explicit'] }).csr,
  ],
  ['Ed25519', () => makeRequest({ algorithm: 'ED25519', options: [] }).csr],
  ['SHA-1', () => makeRequest(rsa(2048), ['-subj', '/', '-sha1']).csr],
  ['a megabyte of base64', () => pem(Buffer.alloc(750_000, 1))],
  ['deep nesting', () => pem(nested(3000))],
  ['lengths that lie', () => pem(Buffer.from('3084ffffffff30847fffffff', 'hex'))],
  ['a wide sequence of nothing', () => pem(Buffer.concat([Buffer.from('30823fff', 'hex'), Buffer.alloc(0x3fff, 5)]))],
];
for (const [name, csr] of REFUSED) {
  test(`refused: ${name}`, () => {
    const text = csr();
    const started = performance.now();
    assert.throws(() => readCertificateRequest(text), { code: 'BAD_REQUEST' });
    assert.ok(performance.now() - started < 500, 'a refusal is cheap');
  });
}

test('any bytes and any mutation of a request give a key or BAD_REQUEST', () => {
  const original = der(good);
  const check = (text: string): void => {
    try {
      readCertificateRequest(text);
    } catch (thrown) {
      assert.ok(thrown instanceof AmbitError && thrown.code === 'BAD_REQUEST', String(thrown));
    }
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => check(pem(bytes))),
    { numRuns: 1000 },
  );
  const mutation = fc.tuple(fc.nat(original.length - 1), fc.integer({ min: 0, max: 255 }));
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (changes) => {
      const bytes = Buffer.from(original);
      for (const [at, value] of changes) bytes[at] = value;
      check(pem(bytes));
    }),
    { numRuns: 1500 },
  );
});

/** A request with an RSA key of so many bits. Nobody has computed its private half: the signature is nonsense. */
function hugeKey(bits: number): string {
  const modulus = Buffer.alloc(bits / 8, 0xff).toString('base64url');
  const key = createPublicKey({ key: { kty: 'RSA', n: modulus, e: 'AQAB' }, format: 'jwk' });
  const info = sequence(integer(Buffer.of(0)), sequence(), decode(key.export({ type: 'spki', format: 'der' })));
  const algorithm = sequence(oid(OID.sha256WithRsa), nothing());
  return pem(encode(sequence(info, algorithm, bitString(Buffer.alloc(bits / 8)))));
}

function der(csr: string): Buffer {
  return Buffer.from(csr.replace(/-----[^-]+-----|\s/g, ''), 'base64');
}

/** `depth` sequences, each around the next. */
function nested(depth: number): Buffer {
  let bytes = Buffer.alloc(0);
  for (let level = 0; level < depth; level++) {
    const length = bytes.length;
    const header = length < 128 ? Buffer.of(0x30, length) : Buffer.of(0x30, 0x82, length >> 8, length & 0xff);
    bytes = Buffer.concat([header, bytes]);
  }
  return bytes;
}
