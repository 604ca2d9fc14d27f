/** Who gets which identity, how often, and which tokens are believed. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { SignJWT } from 'jose';
import { bearerToken, type Caller } from '../../../control/authentication.ts';
import { authorizeIdentity, type NodeAuthorizationRules } from '../../../control/ca/node-authorization.ts';
import { podFacts } from '../../../control/ca/pod-view.ts';
import {
  forcedRotationStep,
  nextRotationStep,
  ROTATION_POLICY,
  type RootLifetime,
  signingRoot,
} from '../../../control/ca/rotation.ts';
import { ObjectStore } from '../../../control/model/object-store.ts';
import { RateLimit } from '../../../control/rate-limit.ts';
import { mintAgentToken, mintToken, openTokenKey, TokenAuthenticator } from '../../../control/tokens.ts';
import { bearer, objectsOf, temporaryFolder } from '../../support/control.ts';

const store = new ObjectStore();
store.apply({
  removed: [],
  upserted: objectsOf(
    [
      ['web-1', 'web', 'node-a', 'Running'],
      ['web-2', 'web', 'node-b', 'Running'],
      ['db-1', 'db', 'node-b', 'Running'],
      ['job-1', 'job', 'node-a', 'Succeeded'],
      ['crash-1', 'crash', 'node-a', 'Failed'],
      ['new-1', 'new', 'node-a', 'Pending'],
      ['homeless-1', 'homeless', '', 'Pending'],
    ]
      .map(
        ([name, account, node, phase]) =>
          `{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: shop}, spec: {nodeName: "${node}", serviceAccountName: ${account}}, status: {phase: ${phase}}}`,
      )
      .join('\n---\n'),
  ),
});

const RULES: NodeAuthorizationRules = {
  trustDomain: 'cluster.local',
  trustedNodeAccounts: new Set(['istio-system/ztunnel']),
  nodeRuns: (node, namespace, account) => store.nodeRuns(node, namespace, account),
  findPod: (namespace, name) => podFacts(store.find('Pod', namespace, name)),
};

const agent: Caller = {
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
  node: 'node-a',
  how: 'token',
  expiresMs: 0,
};
const workload: Caller = { namespace: 'shop', serviceAccount: 'web', node: undefined, how: 'token', expiresMs: 0 };
const of = (account: string, trustDomain = 'cluster.local'): string => `spiffe://${trustDomain}/ns/shop/sa/${account}`;

const DECISIONS: [name: string, caller: Caller, requested: string | undefined, expected: string][] = [
  ['its own identity without asking', workload, undefined, of('web')],
  ['its own identity by name', workload, of('web'), of('web')],
  ['an untrusted caller asking for another', workload, of('db'), 'FORBIDDEN'],
  ['an untrusted caller with a node claim', { ...workload, node: 'node-b' }, of('db'), 'FORBIDDEN'],
  ['an agent for a pod on its node', agent, of('web'), of('web')],
  ['an agent for a pod on another node', agent, of('db'), 'FORBIDDEN'],
  ['an agent for itself', agent, undefined, 'spiffe://cluster.local/ns/istio-system/sa/ztunnel'],
  ['an agent whose token names no node', { ...agent, node: undefined }, of('web'), 'FORBIDDEN'],
  ['an agent of an unknown node', { ...agent, node: 'node-z' }, of('web'), 'FORBIDDEN'],
  ['an agent for a pod that succeeded', agent, of('job'), 'FORBIDDEN'],
  ['an agent for a pod that failed', agent, of('crash'), 'FORBIDDEN'],
  ['an agent for a pod that is starting', agent, of('new'), of('new')],
  ['an agent for a pod that is not scheduled', agent, of('homeless'), 'FORBIDDEN'],
  ['an empty node name does not match unscheduled pods', { ...agent, node: '' }, of('homeless'), 'FORBIDDEN'],
  ['an account that exists nowhere', agent, of('ghost'), 'FORBIDDEN'],
  ['another trust domain', agent, of('web', 'evil.example'), 'TRUST_DOMAIN'],
  ['something that is no identity', agent, 'spiffe://cluster.local/shop/web', 'TRUST_DOMAIN'],
  ['an empty identity', agent, '', 'TRUST_DOMAIN'],
];
for (const [name, caller, requested, expected] of DECISIONS) {
  test(`identity: ${name}`, () => {
    const verdict = authorizeIdentity(caller, requested, RULES);
    assert.equal(verdict.kind === 'granted' ? verdict.identity : verdict.code, expected);
  });
}

test('a node keeps the right to an identity only while a pod of it is there', () => {
  const own = new ObjectStore();
  const pod = (node: string) =>
    objectsOf(
      `{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop}, spec: {nodeName: ${node}, serviceAccountName: web}}`,
    );
  own.apply({ upserted: pod('node-a'), removed: [] });
  assert.ok(own.nodeRuns('node-a', 'shop', 'web'));
  own.apply({ upserted: pod('node-b'), removed: [] });
  assert.ok(!own.nodeRuns('node-a', 'shop', 'web') && own.nodeRuns('node-b', 'shop', 'web'));
  own.apply({ upserted: [], removed: ['Pod/shop/p'] });
  assert.ok(!own.nodeRuns('node-b', 'shop', 'web'));
});

test('a rate limit lets a burst through, then a steady rate, each key for itself', () => {
  let now = 0;
  const limit = new RateLimit({ burst: 3, perSecond: 2, maxKeys: 10 }, () => now);
  const taken = (key: string): number => Array.from({ length: 10 }, () => limit.take(key)).filter(Boolean).length;
  assert.equal(taken('a'), 3);
  assert.equal(taken('b'), 3);
  now += 1000;
  assert.equal(taken('a'), 2);
  now += 3_600_000;
  assert.equal(taken('a'), 3);
});

test('a rate limit remembers a bounded number of keys', () => {
  const limit = new RateLimit({ burst: 1, perSecond: 0.001, maxKeys: 2 }, () => 0);
  assert.ok(limit.take('a') && limit.take('b') && !limit.take('a'));
  assert.ok(limit.take('c'), 'b is forgotten');
  assert.ok(!limit.take('a') && !limit.take('c'));
});

const HOUR = 3_600_000;
const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

test('a token says who calls and from which node', async () => {
  const token = await mintToken(key, { namespace: 'istio-system', serviceAccount: 'ztunnel', node: 'node-a' }, HOUR);
  const caller = await new TokenAuthenticator(key).authenticate(bearer(token));
  assert.deepEqual([caller.namespace, caller.serviceAccount, caller.node], ['istio-system', 'ztunnel', 'node-a']);
  assert.ok(Math.abs(caller.expiresMs - Date.now() - HOUR) < 5000);
});

function forged(
  change: (jwt: SignJWT) => SignJWT,
  signer: KeyObject | Uint8Array = key,
  alg = 'ES256',
  claims = {},
): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const jwt = new SignJWT({ node: 'node-a', ...claims })
    .setProtectedHeader({ alg })
    .setIssuer('ambit')
    .setAudience('istio-ca')
    .setSubject('system:serviceaccount:istio-system:ztunnel')
    .setIssuedAt(now)
    .setExpirationTime(now + 3600);
  return change(jwt).sign(signer);
}

const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const same = (jwt: SignJWT): SignJWT => jwt;
const FORGERIES: [name: string, token: () => Promise<string>][] = [
  ['the key of a stranger', () => forged(same, other)],
  ['expired', () => forged((jwt) => jwt.setExpirationTime(Math.floor(Date.now() / 1000) - 60))],
  [
    'without an end',
    async () =>
      new SignJWT({})
        .setProtectedHeader({ alg: 'ES256' })
        .setIssuer('ambit')
        .setAudience('istio-ca')
        .setSubject('system:serviceaccount:a:b')
        .setIssuedAt()
        .sign(key),
  ],
  ['for another audience', () => forged((jwt) => jwt.setAudience('vault'))],
  ['of another issuer', () => forged((jwt) => jwt.setIssuer('someone'))],
  ['of no service account', () => forged((jwt) => jwt.setSubject('admin'))],
  ['with a path in the account', () => forged((jwt) => jwt.setSubject('system:serviceaccount:a:../b'))],
  ['with a node that is no name', () => forged(same, key, 'ES256', { node: 'a b' })],
  ['with a node that is no text', () => forged(same, key, 'ES256', { node: 7 })],
  [
    'signed with the public key as a secret',
    () => forged(same, Buffer.from(key.export({ type: 'pkcs8', format: 'pem' }).toString()), 'HS256'),
  ],
  [
    'unsigned',
    async () =>
      `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from('{"sub":"system:serviceaccount:a:b"}').toString('base64url')}.`,
  ],
  ['not yet valid', () => forged((jwt) => jwt.setNotBefore(Math.floor(Date.now() / 1000) + 600))],
  ['garbage', async () => 'a.b.c'],
];
for (const [name, token] of FORGERIES) {
  test(`a token is refused: ${name}`, async () => {
    await assert.rejects(new TokenAuthenticator(key).authenticate(bearer(await token())), { code: 'AUTHENTICATION' });
  });
}

test('a call needs exactly one bearer token of sane length', () => {
  const two = bearer('a');
  two.add('authorization', 'Bearer b');
  const basic = new Metadata();
  basic.set('authorization', 'Basic a');
  for (const metadata of [new Metadata(), two, basic, bearer('a'.repeat(9000)), bearer('a b')]) {
    assert.throws(() => bearerToken(metadata), { code: 'AUTHENTICATION' });
  }
  assert.equal(bearerToken(bearer('a.b-c_d')), 'a.b-c_d');
});

test('the token key is made once, for the owner alone, and other keys are refused', async (context) => {
  const path = join(temporaryFolder(context), 'sub', 'key.pem');
  const made = openTokenKey(path);
  assert.equal((statSync(path).mode & 0o777).toString(8), '600');
  assert.ok(openTokenKey(path).equals(made));
  const token = await mintAgentToken(path, { namespace: 'a', serviceAccount: 'b', node: 'c' }, HOUR);
  assert.equal((await new TokenAuthenticator(made).authenticate(bearer(token))).node, 'c');
  writeFileSync(path, generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }));
  assert.throws(() => openTokenKey(path), { code: 'CONFIGURATION', message: /P-256/ });
  writeFileSync(path, 'x');
  assert.throws(() => openTokenKey(path), { code: 'CONFIGURATION' });
});

const root = (id: string, notBeforeMs: number, notAfterMs: number, signsFromMs = notBeforeMs): RootLifetime => ({
  id,
  notBeforeMs,
  notAfterMs,
  signsFromMs,
});
const POLICY = {
  ...ROTATION_POLICY,
  rootLifetimeMs: 1000,
  renewalShare: 0.2,
  distributionMs: 50,
  maxLeafLifetimeMs: 100,
};
const STEPS: [
  name: string,
  roots: RootLifetime[],
  now: number,
  step: ReturnType<typeof nextRotationStep>,
  signs: string | undefined,
][] = [
  ['no root: one that signs at once', [], 5, { kind: 'create', signsFromMs: 5 }, undefined],
  ['a young root is left alone', [root('a', 0, 1000)], 799, undefined, 'a'],
  ['an old root gets a successor', [root('a', 0, 1000)], 801, { kind: 'create', signsFromMs: 851 }, 'a'],
  [
    'close to the end there is less time to distribute',
    [root('a', 0, 1000)],
    980,
    { kind: 'create', signsFromMs: 990 },
    'a',
  ],
  ['one successor is enough', [root('a', 0, 1000), root('b', 801, 1801, 851)], 820, undefined, 'a'],
  ['the successor signs from its time on', [root('a', 0, 1000), root('b', 801, 1801, 851)], 851, undefined, 'b'],
  ['the old root stays while its leaves live', [root('a', 0, 1000), root('b', 801, 1801, 851)], 950, undefined, 'b'],
  ['and goes afterwards', [root('a', 0, 1000), root('b', 801, 1801, 851)], 951, { kind: 'remove', id: 'a' }, 'b'],
  ['an expired root is replaced', [root('a', 0, 1000)], 1000, { kind: 'create', signsFromMs: 1000 }, undefined],
  ['and stays for a while, should it be the clock', [root('a', 0, 1000), root('b', 1000, 2000)], 1099, undefined, 'b'],
  ['then it goes', [root('a', 0, 1000), root('b', 1000, 2000)], 1100, { kind: 'remove', id: 'a' }, 'b'],
  ['when the signer expired, the successor signs before its time', [root('b', 801, 1801, 2000)], 1500, undefined, 'b'],
];
for (const [name, roots, now, step, signs] of STEPS) {
  test(`rotation: ${name}`, () => {
    assert.deepEqual(nextRotationStep(roots, now, POLICY), step);
    assert.equal(signingRoot(roots, now)?.id, signs);
  });
}

test('rotation on demand makes one successor at a time', () => {
  assert.deepEqual(forcedRotationStep([root('a', 0, 1000)], 10, POLICY), { kind: 'create', signsFromMs: 60 });
  assert.equal(forcedRotationStep([root('a', 0, 1000), root('b', 10, 1010, 60)], 20, POLICY), undefined);
});
