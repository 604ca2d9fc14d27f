import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { test } from 'node:test';
import { createCertificateRequest } from '../../../agent/state/csr.ts';
import { readCertificateRequest } from '../../../control/ca/certificate-request.ts';
import { decode, members } from '../../../control/ca/der.ts';
import { identityOf } from '../../support/certificate-source.ts';

test('a certificate request has a P-256 key, a valid signature, no subject and one critical URI name', () => {
  const identity = identityOf('some-account');
  const { csrPem, privateKeyPem } = createCertificateRequest(identity);
  const key = readCertificateRequest(csrPem);
  assert.equal(key.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  assert.ok(key.equals(createPublicKey(createPrivateKey(privateKeyPem))));

  const der = Buffer.from(csrPem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const [information] = members(decode(der));
  const [, subject] = members(information);
  assert.equal(members(subject).length, 0);
  // SEQUENCE { OID 2.5.29.17, TRUE, OCTET STRING { SEQUENCE { [6] uri } } }
  const uri = Buffer.from(identity);
  const names = Buffer.concat([Buffer.from([0x30, uri.length + 2, 0x86, uri.length]), uri]);
  const extension = Buffer.concat([Buffer.from('0603551d110101ff04', 'hex'), Buffer.from([names.length]), names]);
  assert.ok(der.includes(extension), 'the critical extension with exactly this name');
  assert.equal(der.toString('latin1').split('spiffe://').length, 2, 'one name');
});

test('a request for an identity of any length is well formed', () => {
  for (const length of [1, 50, 100, 150, 250]) {
    const { csrPem } = createCertificateRequest(identityOf('x'.repeat(length)));
    assert.equal(readCertificateRequest(csrPem).asymmetricKeyType, 'ec');
  }
});

test('two requests never share a key', () => {
  const keys = [1, 2, 3].map(() => createCertificateRequest(identityOf('a')).privateKeyPem);
  assert.equal(new Set(keys).size, 3);
});
