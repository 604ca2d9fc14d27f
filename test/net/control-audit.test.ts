/** What the CA leaves behind: one line per certificate that an auditor can rely on, and no key anywhere. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { IstioCertificateService } from '../../api/gen/istio/v1/auth/ca_pb.js';
import { mintAgentToken } from '../../control/tokens.ts';
import { callUnary, openTlsClient } from '../../core/grpc.ts';
import { makeRequest } from '../support/certificate-request.ts';
import { AGENT, bearer, temporaryFolder } from '../support/control.ts';
import { eventually } from '../support/eventually.ts';

const MAIN = join(import.meta.dirname, '../../control/main.ts');
const POD = `apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop}
spec: {nodeName: node-a, serviceAccountName: web}
status: {podIP: 10.0.0.1}
`;

test('each certificate has one line of audit; log, metrics and views of the state hold no key', async (context) => {
  const folder = temporaryFolder(context);
  const [config, state] = [join(folder, 'config'), join(folder, 'state')];
  mkdirSync(config);
  writeFileSync(join(config, 'pod.yaml'), POD);
  const args = [
    '--config-dir',
    config,
    '--state-dir',
    state,
    '--listen',
    '127.0.0.1:0',
    '--status-listen',
    '127.0.0.1:0',
  ];
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, AMBIT_LOG_LEVEL: 'trace' },
  });
  context.after(() => child.kill('SIGKILL'));
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (text += bytes.toString()));
  const lines = (message: string): Record<string, unknown>[] =>
    text.split('\n').flatMap((line) => (line.includes(`"msg":"${message}"`) ? [JSON.parse(line)] : []));
  const [serving] = await eventually(
    'it serves',
    () => {
      const found = lines('control plane serving');
      assert.equal(found.length, 1, text);
      return found;
    },
    15_000,
  );

  const rootsPem = readFileSync(join(state, 'root-cert.pem'), 'utf8');
  const client = openTlsClient({ address: String(serving?.address), rootsPem });
  context.after(() => client.close());
  const tokenKey = join(state, 'token-key.pem');
  const token = await mintAgentToken(tokenKey, { ...AGENT, node: 'node-a' }, 3_600_000);
  const identity = 'spiffe://cluster.local/ns/shop/sa/web';
  const csr = makeRequest({ algorithm: 'RSA', options: ['rsa_keygen_bits:2048'] });
  const ask = (requested: string) =>
    callUnary(
      client,
      IstioCertificateService.method.createCertificate,
      { csr: csr.csr, validityDuration: 3600n, metadata: { ImpersonatedIdentity: requested } },
      bearer(token),
    );
  const { certChain } = await ask(identity);
  const leaf = new X509Certificate(certChain[0] ?? '');
  await eventually('one line', () => assert.equal(lines('certificate issued').length, 1));
  const [line] = lines('certificate issued');
  assert.equal(line?.serial, leaf.serialNumber);
  assert.equal(line?.identity, identity);
  assert.equal(line?.caller, 'istio-system/ambit-agent');
  assert.equal(line?.node, 'node-a');
  assert.equal(line?.how, 'token');
  assert.equal(line?.keyType, 'rsa-2048');
  assert.ok(Math.abs(Date.parse(String(line?.notAfter)) - leaf.validToDate.getTime()) < 1000);
  await assert.rejects(ask('spiffe://cluster.local/ns/shop/sa/db'), { details: 'request authenticate failure' });
  await eventually('the refusal says why', () => {
    const [refused] = lines('certificate refused');
    assert.match(String(refused?.reason), /no pod of shop\/db that can run is on node node-a/);
  });

  const status = `http://127.0.0.1:${serving?.statusPort}`;
  const index = await (await fetch(`${status}/nothing`)).text();
  const pages = index.split('\n').filter((path) => path.startsWith('/'));
  assert.ok(pages.some((path) => path.startsWith('/debug/')));
  let shown = text;
  for (const path of pages) shown += await (await fetch(status + path)).text();
  child.kill('SIGUSR2');
  await eventually('a rotation', () => assert.ok(lines('root created').length === 2));
  child.kill('SIGTERM');
  await once(child, 'close');
  shown += text;
  const keyFiles = readdirSync(join(state, 'ca')).filter((name) => name.endsWith('.key.pem'));
  assert.equal(keyFiles.length, 2);
  assert.doesNotMatch(shown, /PRIVATE KEY/);
  assert.ok(!shown.includes(token), 'nor a token');
  for (const path of [...keyFiles.map((name) => join(state, 'ca', name)), tokenKey]) {
    const pem = readFileSync(path, 'utf8');
    const secret = createPrivateKey(pem).export({ format: 'jwk' }).d ?? '';
    for (const form of [secret, Buffer.from(secret, 'base64url').toString('hex'), pem.split('\n')[1] ?? '']) {
      assert.ok(form.length > 20 && !shown.includes(form), path);
    }
  }
});
