/** What a sysdump lets through, and that its archive is one that tar reads. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openArchive, tarHeader } from '../../../cli/sysdump/archive.ts';
import { foreignObject, ownObject, redact } from '../../../cli/sysdump/redact.ts';

describe('the text of a sysdump', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const sec1 = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'sec1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  }).privateKey;
  const rsa = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  }).privateKey;
  const body = (pem: string): string => pem.split('\n')[1] ?? '';

  test('has no private key of any kind, as it is, in JSON or in base64', () => {
    for (const key of [privateKey, sec1, rsa]) {
      for (const text of [key, JSON.stringify({ key }), Buffer.from(key).toString('base64')]) {
        const kept = redact(`before ${text} after`);
        assert.match(kept, /^before .*\[private key removed\].* after$/s);
        assert.ok(!kept.includes(body(key)), kept);
        assert.ok(!kept.includes(Buffer.from(key).toString('base64').slice(40, 80)), kept);
      }
    }
  });

  test('has no key that a log cut off in the middle', () => {
    assert.ok(!redact(privateKey.slice(0, 90)).includes(privateKey.slice(40, 80)));
  });

  test('has no token', () => {
    const token = `${Buffer.from('{"alg":"RS256"}').toString('base64url')}.${Buffer.from('{"sub":"system"}').toString('base64url')}.c2lnbmF0dXJl`;
    assert.equal(redact(`authorization: Bearer ${token}`), 'authorization: Bearer [token removed]');
    assert.equal(redact(`token=${token};`), 'token=[token removed];');
  });

  test('keeps certificates, public keys and ordinary words', () => {
    const certificate = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
    for (const text of [certificate, Buffer.from(certificate).toString('base64'), publicKey, 'the bearer of this'])
      assert.equal(redact(text), text);
  });
});

describe('objects in a sysdump', () => {
  const metadata = {
    name: 'x',
    managedFields: [{ manager: 'kubectl' }],
    annotations: { 'kubectl.kubernetes.io/last-applied-configuration': 'hunter2', 'istio.io/x': 'y' },
  };

  test('of somebody else have no variables, commands and volumes', () => {
    const pod = {
      metadata,
      spec: {
        nodeName: 'n1',
        containers: [{ name: 'app', image: 'i', env: [{ name: 'A', value: 'hunter2' }], command: ['sh', 'hunter2'] }],
        volumes: [{ secret: { secretName: 'hunter2' } }],
      },
      status: { phase: 'Running' },
    };
    const kept = foreignObject(pod);
    assert.ok(!JSON.stringify(kept).includes('hunter2'));
    assert.deepEqual(JSON.parse(JSON.stringify(kept)), {
      metadata: { name: 'x', annotations: { 'istio.io/x': 'y' } },
      spec: { nodeName: 'n1', containers: [{ name: 'app', image: 'i' }] },
      status: { phase: 'Running' },
    });
  });

  test('of the mesh are whole but for values that sound secret', () => {
    const env = [
      { name: 'LOG_LEVEL', value: 'debug' },
      { name: 'PROXY_PASSWORD', value: 'hunter2' },
    ];
    const text = JSON.stringify(ownObject({ metadata, spec: { template: { spec: { containers: [{ env }] } } } }));
    assert.ok(!text.includes('hunter2') && !text.includes('managedFields'));
    assert.match(text, /"LOG_LEVEL","value":"debug"/);
  });
});

describe('the archive', () => {
  test('is read by tar, file by file, and only its owner may read it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ambit-sysdump-'));
    try {
      const path = join(folder, 'dump.tar.gz');
      const archive = await openArchive(path, Date.parse('2026-11-21T12:00:00Z'));
      const long = `agents/${'n'.repeat(90)}/${'p'.repeat(60)}.json`;
      await archive.add('a.txt', 'exactly');
      await archive.add('block.txt', 'x'.repeat(512));
      await archive.add(long, '{"ä": 1}\n');
      await archive.close();
      assert.equal(statSync(path).mode & 0o777, 0o600);
      execFileSync('tar', ['xzf', path, '-C', folder]);
      assert.equal(readFileSync(join(folder, 'a.txt'), 'utf8'), 'exactly');
      assert.equal(readFileSync(join(folder, 'block.txt'), 'utf8').length, 512);
      assert.equal(readFileSync(join(folder, long), 'utf8'), '{"ä": 1}\n');
      await assert.rejects(openArchive(path, 0), /EEXIST/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('refuses a name that the format cannot hold', () => {
    assert.throws(() => tarHeader('x'.repeat(101), 0, 0), /too long/);
  });
});
