/**
 * Hostile requests for certificates: bombs in every field, tokens by the hundred, a node in a loop. Each beside an
 * innocent node that has to be served meanwhile.
 */
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { type Client, status } from '@grpc/grpc-js';
import { type IstioCertificateResponse, IstioCertificateService } from '../../api/gen/istio/v1/auth/ca_pb.js';
import { bitString, decode, encode, integer, nothing, OID, oid, sequence } from '../../control/ca/der.ts';
import { mintToken } from '../../control/tokens.ts';
import { callUnary } from '../../core/grpc.ts';
import { makeRequest, P256, pem } from '../support/certificate-request.ts';
import { AGENT, bearer, ControlFixture } from '../support/control.ts';

const pod = (name: string, account: string, node: string): string =>
  `{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: shop}, spec: {nodeName: ${node}, serviceAccountName: ${account}}, status: {podIP: 10.0.0.1}}\n`;
const FILES = { 'pods.yaml': `${pod('web-1', 'web', 'node-a')}---\n${pod('db-1', 'db', 'node-b')}` };
const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const DB = 'spiffe://cluster.local/ns/shop/sa/db';
const request = makeRequest();

interface Ask {
  readonly node?: string;
  readonly csr?: string;
  readonly metadata?: JsonObject;
}

/** A caller with one connection. */
async function caller(
  fixture: ControlFixture,
  node: string,
): Promise<(ask?: Ask) => Promise<IstioCertificateResponse>> {
  const client: Client = fixture.client();
  const metadata = await fixture.metadata({ ...AGENT, node });
  return ({ csr = request.csr, metadata: fields = {} } = {}) =>
    callUnary(
      client,
      IstioCertificateService.method.createCertificate,
      { csr, validityDuration: 3600n, metadata: { ImpersonatedIdentity: node === 'node-a' ? WEB : DB, ...fields } },
      metadata,
      { deadline: Date.now() + 10_000 },
    );
}

const sans = (count: number): string[] => [
  '-subj',
  '/',
  '-addext',
  `subjectAltName=${Array.from({ length: count }, (_, index) => `DNS:n${index}.example`).join(',')}`,
];

/** A request with an RSA key of so many bits and an exponent as long; its signature is nonsense. */
function heavyKey(bits: number): string {
  const modulus = Buffer.alloc(bits / 8, 0xff).toString('base64url');
  const key = createPublicKey({ key: { kty: 'RSA', n: modulus, e: modulus }, format: 'jwk' });
  const info = sequence(integer(Buffer.of(0)), sequence(), decode(key.export({ type: 'spki', format: 'der' })));
  return pem(encode(sequence(info, sequence(oid(OID.sha256WithRsa), nothing()), bitString(Buffer.alloc(bits / 8)))));
}

const wide = (count: number): JsonObject => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, i]));
const BOMBS: [name: string, ask: () => Ask, expected: readonly (status | 'granted')[]][] = [
  ['thousands of names', () => ({ csr: makeRequest(P256, sans(3000)).csr }), [status.INVALID_ARGUMENT]],
  ['hundreds of names', () => ({ csr: makeRequest(P256, sans(500)).csr }), ['granted']],
  ['an RSA key of 4,096 bits with an exponent as long', () => ({ csr: heavyKey(4096) }), [status.INVALID_ARGUMENT]],
  ['an RSA key of 50,000 bits', () => ({ csr: heavyKey(50_000) }), [status.INVALID_ARGUMENT]],
  ['a struct of 2,000 fields', () => ({ metadata: wide(2000) }), ['granted', status.INVALID_ARGUMENT]],
  ['a struct beyond the limit', () => ({ metadata: wide(20_000) }), [status.INTERNAL, status.RESOURCE_EXHAUSTED]],
  ['a list as the identity', () => ({ metadata: { ImpersonatedIdentity: [WEB] } }), [status.INVALID_ARGUMENT]],
  [
    'an identity of 30,000 characters',
    () => ({ metadata: { ImpersonatedIdentity: 'x'.repeat(30_000) } }),
    [status.UNAUTHENTICATED],
  ],
  [
    'an identity through a prototype',
    () => ({ metadata: JSON.parse(`{"ImpersonatedIdentity":null,"__proto__":{"ImpersonatedIdentity":"${DB}"}}`) }),
    [status.INVALID_ARGUMENT, status.UNAUTHENTICATED],
  ],
];
test('bombs are answered quickly, and an innocent node is served between them', async (context) => {
  const fixture = await ControlFixture.start(context, FILES);
  const [hostile, innocent] = [await caller(fixture, 'node-a'), await caller(fixture, 'node-b')];
  for (const [name, bomb, expected] of BOMBS) {
    const ask = bomb();
    const started = performance.now();
    const outcome = await hostile(ask).then(
      () => 'granted' as const,
      (thrown: { code?: status }) => thrown.code,
    );
    const tookMs = performance.now() - started;
    assert.ok(outcome !== undefined && expected.includes(outcome), `${name}: ${outcome}`);
    assert.ok(tookMs < 1500, `${name} took ${Math.round(tookMs)} ms`);
    assert.equal((await innocent()).certChain.length, 2, name);
  }
});

test('a node in a loop is cut off at its limits and the innocent one is served all the while', async (context) => {
  const fixture = await ControlFixture.start(context, FILES, ['--cert-rate-burst', '100', '--cert-rate', '10']);
  const [hostile, innocent] = [await caller(fixture, 'node-a'), await caller(fixture, 'node-b')];
  const loop = Promise.allSettled(Array.from({ length: 400 }, () => hostile()));
  const times: number[] = [];
  for (let index = 0; index < 10; index++) {
    const started = performance.now();
    await innocent();
    times.push(performance.now() - started);
  }
  const outcomes = await loop;
  const granted = outcomes.filter((outcome) => outcome.status === 'fulfilled').length;
  assert.ok(granted >= 30 && granted <= 60, `${granted} of 400 for one identity`);
  assert.ok(
    outcomes.every((outcome) => outcome.status === 'fulfilled' || outcome.reason.code === status.RESOURCE_EXHAUSTED),
  );
  assert.ok(Math.max(...times) < 3000, `${Math.round(Math.max(...times))} ms`);
});

test('requests for pods that are nowhere, by the hundred, do not keep an innocent node waiting', async (context) => {
  const fixture = await ControlFixture.start(context, FILES);
  const [hostile, innocent] = [await caller(fixture, 'node-a'), await caller(fixture, 'node-b')];
  const ghost = 'spiffe://cluster.local/ns/shop/sa/ghost';
  const flood = Promise.allSettled(
    Array.from({ length: 180 }, () => hostile({ metadata: { ImpersonatedIdentity: ghost } })),
  );
  const started = performance.now();
  await innocent();
  assert.ok(performance.now() - started < 2000);
  for (const outcome of await flood)
    assert.equal(outcome.status === 'rejected' && outcome.reason.code, status.UNAUTHENTICATED);
});

test('strangers with tokens of their own get the same answer each time and the innocent node is served', async (context: TestContext) => {
  const fixture = await ControlFixture.start(context, FILES);
  const innocent = await caller(fixture, 'node-b');
  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const client = fixture.client();
  const calls = Array.from({ length: 200 }, async (_, index) => {
    const metadata = bearer(await mintToken(stranger, { ...AGENT, node: `node-${index}` }, 60_000));
    const ask = { csr: request.csr, validityDuration: 60n, metadata: {} };
    return callUnary(client, IstioCertificateService.method.createCertificate, ask, metadata, {
      deadline: Date.now() + 10_000,
    });
  });
  const outcomes = await Promise.allSettled(calls);
  assert.equal((await innocent()).certChain.length, 2);
  for (const outcome of outcomes) {
    // The connection itself is given up after a few.
    const told = outcome.status === 'rejected' && outcome.reason.details;
    assert.match(String(told), /^(authentication failure|.*ECONNRESET)$/);
  }
});
