/** The certificate service over real gRPC and TLS: what callers get, and what hostile callers get. */
import assert from 'node:assert/strict';
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { Metadata, status } from '@grpc/grpc-js';
import { type IstioCertificateResponse, IstioCertificateService } from '../../api/gen/istio/v1/auth/ca_pb.js';
import { mintToken, type TokenSubject } from '../../control/tokens.ts';
import { callUnary } from '../../core/grpc.ts';
import { bend, makeRequest, opensslVerify } from '../support/certificate-request.ts';
import { AGENT, bearer, ControlFixture } from '../support/control.ts';
import { eventually } from '../support/eventually.ts';

const pod = (name: string, account: string, node: string): string =>
  `{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: shop}, spec: {nodeName: ${node}, serviceAccountName: ${account}}, status: {podIP: 10.0.0.1}}\n`;
const FILES = { 'pods.yaml': `${pod('web-1', 'web', 'node-a')}---\n${pod('db-1', 'db', 'node-b')}` };
const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const DB = 'spiffe://cluster.local/ns/shop/sa/db';

interface Ask {
  csr?: string;
  identity?: string;
  seconds?: bigint;
  metadata?: JsonObject;
  caller?: TokenSubject;
  call?: Metadata;
}

const request = makeRequest();

async function ask(fixture: ControlFixture, options: Ask = {}): Promise<IstioCertificateResponse> {
  const identity: JsonObject = options.identity === undefined ? {} : { ImpersonatedIdentity: options.identity };
  return callUnary(
    fixture.client(),
    IstioCertificateService.method.createCertificate,
    {
      csr: options.csr ?? request.csr,
      validityDuration: options.seconds ?? 3600n,
      metadata: options.metadata ?? identity,
    },
    options.call ?? (await fixture.metadata(options.caller)),
    { deadline: Date.now() + 5000 },
  );
}

test('an agent gets a certificate for a pod on its node: for the key of its request, with the pod as only name', async (context) => {
  const fixture = await ControlFixture.start(context, FILES);
  for (const key of [request, makeRequest({ algorithm: 'RSA', options: ['rsa_keygen_bits:2048'] })]) {
    const { certChain } = await ask(fixture, { identity: WEB, csr: key.csr });
    assert.equal(certChain.length, 2);
    const leaf = new X509Certificate(certChain[0] ?? '');
    assert.equal(leaf.subjectAltName, `URI:${WEB}`, 'the names in the request are ignored');
    assert.ok(leaf.checkPrivateKey(createPrivateKey(key.keyPem)));
    assert.equal(certChain[1], fixture.rootsPem());
    assert.equal(opensslVerify(certChain[1] ?? '', certChain[0] ?? ''), 'leaf: OK');
  }
  assert.match((await fixture.status('/metrics')).text, /citadel_server_success_cert_issuance_count 2\n/);
});

test('the metrics tell when the root that signs and its chain expire', async (context) => {
  const fixture = await ControlFixture.start(context, FILES);
  const { text } = await fixture.status('/metrics');
  const expirySeconds = Date.parse(new X509Certificate(fixture.rootsPem()).validTo) / 1000;
  for (const what of ['root_cert', 'cert_chain']) {
    assert.match(text, new RegExp(`^citadel_server_${what}_expiry_timestamp ${expirySeconds}$`, 'm'));
    const [, left] = new RegExp(`^citadel_server_${what}_expiry_seconds ([0-9]+)$`, 'm').exec(text) ?? [];
    assert.ok(Math.abs(expirySeconds - Date.now() / 1000 - Number(left)) < 60, `${what}: ${left} s`);
  }
});

test('a workload gets its own identity with its own token', async (context) => {
  const fixture = await ControlFixture.start(context, FILES);
  const caller = { namespace: 'shop', serviceAccount: 'lonely' };
  const { certChain } = await ask(fixture, { caller });
  assert.equal(new X509Certificate(certChain[0] ?? '').subjectAltName, 'URI:spiffe://cluster.local/ns/shop/sa/lonely');
  await assert.rejects(ask(fixture, { caller, identity: WEB }), { code: status.UNAUTHENTICATED });
});

test('a lifetime of zero is the default, one above the limit is refused', async (context) => {
  const fixture = await ControlFixture.start(context, FILES, ['--default-cert-ttl', '2h', '--max-cert-ttl', '3h']);
  const lifeSeconds = async (seconds: bigint): Promise<number> => {
    const leaf = new X509Certificate((await ask(fixture, { identity: WEB, seconds })).certChain[0] ?? '');
    return Math.round((leaf.validToDate.getTime() - Date.now()) / 1000);
  };
  assert.ok(Math.abs((await lifeSeconds(0n)) - 7200) < 10);
  assert.ok(Math.abs((await lifeSeconds(10_800n)) - 10_800) < 10);
  for (const seconds of [10_801n, -1n, 9_223_372_036_854_775_807n]) {
    await assert.rejects(ask(fixture, { identity: WEB, seconds }), { code: status.INVALID_ARGUMENT });
  }
});

const UNAUTHENTICATED = { code: status.UNAUTHENTICATED };
const REFUSED: [name: string, ask: Ask, expected: { code: status }][] = [
  ['a pod on another node', { identity: DB }, UNAUTHENTICATED],
  ['a pod that does not exist', { identity: 'spiffe://cluster.local/ns/shop/sa/ghost' }, UNAUTHENTICATED],
  ['another trust domain', { identity: 'spiffe://other.example/ns/shop/sa/web' }, UNAUTHENTICATED],
  ['an identity that is none', { identity: 'web' }, UNAUTHENTICATED],
  ['an identity that is no text', { metadata: { ImpersonatedIdentity: { a: 1 } } }, { code: status.INVALID_ARGUMENT }],
  ['another signer', { metadata: { CertSigner: 'x' } }, { code: status.INVALID_ARGUMENT }],
  [
    'a caller that is no agent',
    { caller: { namespace: 'shop', serviceAccount: 'web', node: 'node-b' }, identity: DB },
    UNAUTHENTICATED,
  ],
  ['an agent without a node', { caller: AGENT, identity: WEB }, UNAUTHENTICATED],
  ['no token', { call: new Metadata(), identity: WEB }, UNAUTHENTICATED],
  ['a token that is garbage', { call: bearer('x.y.z'), identity: WEB }, UNAUTHENTICATED],
  [
    'a request with a wrong signature',
    { csr: bend(request.csr, -1), identity: WEB },
    { code: status.INVALID_ARGUMENT },
  ],
  ['a request that is none', { csr: 'x', identity: WEB }, { code: status.INVALID_ARGUMENT }],
  [
    'a request with a key too weak',
    { csr: makeRequest({ algorithm: 'RSA', options: ['rsa_keygen_bits:1024'] }).csr, identity: WEB },
    { code: status.INVALID_ARGUMENT },
  ],
];

test('what is refused, and that the peer of a forbidden identity learns nothing', async (context) => {
  const fixture = await ControlFixture.start(context, FILES);
  for (const [name, options, expected] of REFUSED) {
    await assert.rejects(ask(fixture, options), expected, name);
  }
  await assert.rejects(ask(fixture, { identity: DB }), { details: 'request authenticate failure' });
  assert.match((await fixture.status('/metrics')).text, /citadel_server_success_cert_issuance_count 0\n/);
});

test('forged and expired tokens are refused', async (context) => {
  const fixture = await ControlFixture.start(context, FILES);
  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const forged = await mintToken(stranger, { ...AGENT, node: 'node-a' }, 3_600_000);
  await assert.rejects(ask(fixture, { call: bearer(forged), identity: WEB }), UNAUTHENTICATED);
  await assert.rejects(
    ask(fixture, { call: await fixture.metadata(undefined, -60_000), identity: WEB }),
    UNAUTHENTICATED,
  );
  await eventually('both are counted', async () =>
    assert.match((await fixture.status('/metrics')).text, /citadel_server_authentication_failure_count 2\n/),
  );
});

test('CSR bombs and oversized metadata are refused quickly, and the next caller is served', async (context) => {
  const fixture = await ControlFixture.start(context, FILES);
  const bombs: [string, Ask, RegExp | number][] = [
    ['a long CSR', { csr: `${request.csr}${' '.repeat(60_000)}`, identity: WEB }, status.INVALID_ARGUMENT],
    ['a megabyte', { csr: 'x'.repeat(1_000_000), identity: WEB }, status.INTERNAL],
    ['nested metadata', { metadata: nest(200) }, status.INTERNAL],
  ];
  for (const [name, options, code] of bombs) {
    const started = performance.now();
    await assert.rejects(ask(fixture, options), { code }, name);
    assert.ok(performance.now() - started < 2000, name);
  }
  const heavy = await fixture.metadata();
  heavy.set('x-heavy', 'h'.repeat(100_000));
  await assert.rejects(ask(fixture, { call: heavy, identity: WEB }));
  await assert.rejects(ask(fixture, { call: bearer('a'.repeat(20_000)), identity: WEB }));
  assert.equal((await ask(fixture, { identity: WEB })).certChain.length, 2);
});

test('a node that asks too often is limited, another node is not', async (context) => {
  const fixture = await ControlFixture.start(context, FILES, ['--cert-rate-burst', '3', '--cert-rate', '1']);
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => ask(fixture, { identity: WEB })));
  const granted = outcomes.filter((outcome) => outcome.status === 'fulfilled').length;
  assert.ok(granted >= 3 && granted <= 6, `${granted} of 10 at once`);
  const caller = { ...AGENT, node: 'node-b' };
  assert.equal((await ask(fixture, { caller, identity: DB })).certChain.length, 2);
});

test('a pod that moves or goes takes the right to its identity along', async (context) => {
  const fixture = await ControlFixture.start(context, FILES);
  await ask(fixture, { identity: WEB });
  fixture.write('pods.yaml', `${pod('web-1', 'web', 'node-b')}---\n${pod('db-1', 'db', 'node-b')}`);
  await eventually('the old node is refused', () => assert.rejects(ask(fixture, { identity: WEB }), UNAUTHENTICATED));
  const caller = { ...AGENT, node: 'node-b' };
  await ask(fixture, { caller, identity: WEB });
  fixture.write('pods.yaml', pod('db-1', 'db', 'node-b'));
  await eventually('nobody has it any more', () =>
    assert.rejects(ask(fixture, { caller, identity: WEB }), UNAUTHENTICATED),
  );
});

function nest(depth: number): JsonObject {
  let value: JsonObject = {};
  for (let level = 0; level < depth; level++) value = { a: value };
  return value;
}
