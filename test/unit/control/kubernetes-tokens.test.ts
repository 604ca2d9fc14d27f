/** Tokens of Kubernetes: what a review says, what is remembered of it, and how little a flood of tokens gets through. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { test } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { SignJWT } from 'jose';
import { KubernetesTokenAuthenticator, REVIEW_LIMITS } from '../../../control/authentication/kubernetes-tokens.ts';
import { findObviousFault, readClaims } from '../../../control/authentication/token-claims.ts';
import { TokenKeys } from '../../../control/authentication/token-keys.ts';
import { callerOfReview } from '../../../control/authentication/token-review.ts';
import { type Authenticator, AuthenticatorChain, callerKey } from '../../../control/authentication.ts';
import { AmbitError } from '../../../core/errors.ts';
import { KubernetesApiError } from '../../../kube/api-error.ts';
import { bearer } from '../../support/control.ts';

const EXTRA = {
  'authentication.kubernetes.io/pod-name': ['agent-1'],
  'authentication.kubernetes.io/pod-uid': ['uid-1'],
  'authentication.kubernetes.io/node-name': ['node-a'],
};
const USER = {
  username: 'system:serviceaccount:istio-system:ztunnel',
  groups: ['system:serviceaccounts', 'system:serviceaccounts:istio-system', 'system:authenticated'],
  extra: EXTRA,
};
const review = (status: Record<string, unknown>): unknown => ({
  apiVersion: 'authentication.k8s.io/v1',
  kind: 'TokenReview',
  status: { authenticated: true, audiences: ['istio-ca'], user: USER, ...status },
});

test('a review names the account, the pod and the node', () => {
  assert.deepEqual(callerOfReview(review({}), ['istio-ca', 'other'], 7), {
    namespace: 'istio-system',
    serviceAccount: 'ztunnel',
    node: 'node-a',
    pod: { name: 'agent-1', uid: 'uid-1' },
    how: 'token',
    expiresMs: 7,
  });
});

const without = (key: string): unknown => {
  const extra = Object.fromEntries(Object.entries(EXTRA).filter(([name]) => !name.endsWith(key)));
  return review({ user: { ...USER, extra } });
};
const UNBOUND: [name: string, body: unknown][] = [
  ['without a pod', without('pod-name')],
  ['without the uid of the pod', without('pod-uid')],
  [
    'with two pods',
    review({ user: { ...USER, extra: { ...EXTRA, 'authentication.kubernetes.io/pod-name': ['a', 'b'] } } }),
  ],
  ['without anything further', review({ user: { ...USER, extra: undefined } })],
];
for (const [name, body] of UNBOUND) {
  test(`a token ${name} is bound to no node either, whatever the review says`, () => {
    const { pod, node } = callerOfReview(body, ['istio-ca'], 0);
    assert.deepEqual([pod, node], [undefined, undefined]);
  });
}

const REFUSED: [name: string, body: unknown, expected: RegExp][] = [
  [
    'that was not authenticated',
    review({ authenticated: false, error: 'expired' }),
    /does not accept the token: expired/,
  ],
  ['without a verdict', review({ authenticated: undefined }), /does not accept/],
  ['without a user', review({ user: undefined }), /does not accept/],
  ['of a server that knows no audiences', review({ audiences: undefined }), /not for the audience/],
  ['for another audience', review({ audiences: ['vault'] }), /not for the audience istio-ca/],
  ['of a person', review({ user: { ...USER, username: 'admin' } }), /admin is not a service account/],
  ['of a node', review({ user: { ...USER, username: 'system:node:a' } }), /not a service account/],
  ['of no group of accounts', review({ user: { ...USER, groups: ['system:masters'] } }), /not a service account/],
  [
    'with a strange name',
    review({ user: { ...USER, username: 'system:serviceaccount:a:b:c' } }),
    /not a service account/,
  ],
  ['that is none', { hello: 1 }, /cannot be read/],
  ['that is nothing', undefined, /cannot be read/],
  ['with groups that are no list', review({ user: { ...USER, groups: 'all' } }), /cannot be read/],
];
for (const [name, body, expected] of REFUSED) {
  test(`a review is refused: ${name}`, () => {
    assert.throws(() => callerOfReview(body, ['istio-ca'], 0), { code: 'AUTHENTICATION', message: expected });
  });
}

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const NOW = Date.now();

function token(
  subject: string,
  options: { key?: KeyObject; kid?: string; audience?: string; seconds?: number } = {},
): Promise<string> {
  const { key = privateKey, kid = 'one', audience = 'istio-ca', seconds = 3600 } = options;
  return new SignJWT({})
    .setProtectedHeader({ alg: 'ES256', kid })
    .setAudience(audience)
    .setSubject(subject)
    .setExpirationTime(Math.floor(NOW / 1000) + seconds)
    .sign(key);
}
const ACCOUNT = 'system:serviceaccount:istio-system:ztunnel';

test('what a token says of itself is enough to refuse it', async () => {
  const fault = async (text: Promise<string>): Promise<string | undefined> =>
    findObviousFault(readClaims(await text), ['istio-ca'], NOW);
  assert.equal(await fault(token(ACCOUNT)), undefined);
  assert.match((await fault(token(ACCOUNT, { seconds: -5 }))) ?? '', /expired [56] s ago/);
  assert.match((await fault(token(ACCOUNT, { audience: 'vault' }))) ?? '', /not for the audience istio-ca/);
  assert.match((await fault(token('admin'))) ?? '', /not of a service account/);
  for (const text of [
    '',
    'a',
    'a.b',
    'a.b.c',
    'a.b.c.d',
    '..',
    `${Buffer.from('{}').toString('base64url')}.bnVsbA.x`,
  ]) {
    assert.throws(() => readClaims(text), { code: 'AUTHENTICATION' }, text);
  }
});

/** A reviewer that counts, and answers when the test lets it. */
class FakeApi {
  asked = 0;
  answer: () => Promise<unknown> = async () => review({});

  async review(): Promise<unknown> {
    this.asked++;
    return this.answer();
  }
}

function authenticator(
  api: FakeApi,
  options: { now?: () => number; keys?: TokenKeys } = {},
): KubernetesTokenAuthenticator {
  return new KubernetesTokenAuthenticator(api, { ...RULES, now: () => NOW, ...options });
}
const RULES = { audiences: ['istio-ca'], nodeAccounts: new Set(['istio-system/ztunnel']) };
const from = (peer: string) => ({ peer, certificate: undefined });

test('a token is asked about once, however many calls bring it, and again when the verdict is old', async () => {
  let now = NOW;
  const api = new FakeApi();
  const tokens = authenticator(api, { now: () => now });
  const metadata = bearer(await token(ACCOUNT));
  await Promise.all(Array.from({ length: 50 }, () => tokens.authenticate(metadata)));
  assert.equal(api.asked, 1);
  now += REVIEW_LIMITS.acceptedMs - 1;
  await tokens.authenticate(metadata);
  assert.equal(api.asked, 1);
  now += 1;
  await tokens.authenticate(metadata);
  assert.equal(api.asked, 2);
});

test('a verdict is never older than the token', async () => {
  let now = NOW;
  const api = new FakeApi();
  const tokens = authenticator(api, { now: () => now });
  const metadata = bearer(await token(ACCOUNT, { seconds: 10 }));
  await tokens.authenticate(metadata);
  now += 10_001;
  await assert.rejects(tokens.authenticate(metadata), { code: 'AUTHENTICATION', message: /expired/ });
  assert.equal(api.asked, 1);
});

test('a refusal is remembered for a moment; that nobody could be asked is not', async () => {
  let now = NOW;
  const api = new FakeApi();
  const tokens = authenticator(api, { now: () => now });
  const metadata = bearer(await token(ACCOUNT));
  api.answer = async () => {
    throw new KubernetesApiError('down', { status: 0, reason: 'Unreachable' });
  };
  await assert.rejects(tokens.authenticate(metadata), { code: 'KUBERNETES_API' });
  api.answer = async () => review({ authenticated: false });
  await assert.rejects(tokens.authenticate(metadata), { code: 'AUTHENTICATION' });
  await assert.rejects(tokens.authenticate(metadata), { code: 'AUTHENTICATION' });
  assert.equal(api.asked, 2);
  api.answer = async () => review({});
  now += REVIEW_LIMITS.refusedMs;
  assert.equal((await tokens.authenticate(metadata)).node, 'node-a');
});

test('while the API server does not answer an agent that it accepted is believed on, for a time, and nobody else', async () => {
  let now = NOW;
  const api = new FakeApi();
  const tokens = authenticator(api, { now: () => now });
  const [agent, unseen] = [bearer(await token(ACCOUNT, { seconds: 9000 })), bearer(await token(ACCOUNT))];
  const workload = bearer(await token('system:serviceaccount:shop:web', { seconds: 9000 }));
  await tokens.authenticate(agent);
  api.answer = async () => review({ user: { ...USER, username: 'system:serviceaccount:shop:web' } });
  await tokens.authenticate(workload);
  const away = async (): Promise<never> => {
    throw new KubernetesApiError('down', { status: 0, reason: 'Unreachable' });
  };
  api.answer = away;
  for (let minute = 0; minute < 59; minute++) {
    now += 60_000;
    assert.equal((await tokens.authenticate(agent)).node, 'node-a', `minute ${minute}`);
  }
  await assert.rejects(tokens.authenticate(unseen), { code: 'KUBERNETES_API' });
  await assert.rejects(tokens.authenticate(workload), { code: 'KUBERNETES_API' });
  now += 61_000;
  await assert.rejects(tokens.authenticate(agent), { code: 'KUBERNETES_API' }, 'for an hour since it was accepted');
  api.answer = async () => review({});
  await tokens.authenticate(agent);
  api.answer = away;
  now += REVIEW_LIMITS.acceptedMs;
  await tokens.authenticate(agent);
  api.answer = async () => review({ authenticated: false });
  now += REVIEW_LIMITS.refusedMs;
  await assert.rejects(
    tokens.authenticate(agent),
    { code: 'AUTHENTICATION' },
    'the API server decides when it is back',
  );
  api.answer = away;
  now += REVIEW_LIMITS.refusedMs;
  await assert.rejects(tokens.authenticate(agent), { code: 'KUBERNETES_API' }, 'what it refused is not believed');
});

test('the node of a pod is looked up where the API server does not name it', async () => {
  const api = new FakeApi();
  api.answer = async () => without('node-name');
  const nodeOfPod = (namespace: string, name: string, uid: string): string | undefined =>
    `${namespace}/${name}/${uid}` === 'istio-system/agent-1/uid-1' ? 'node-z' : undefined;
  const tokens = new KubernetesTokenAuthenticator(api, { ...RULES, nodeOfPod });
  assert.equal((await tokens.authenticate(bearer(await token(ACCOUNT)))).node, 'node-z');
});

test('only agents speak for the node that their token names: every pod has a token that names one', async () => {
  const api = new FakeApi();
  const tokens = new KubernetesTokenAuthenticator(api, { ...RULES, nodeOfPod: () => 'node-z' });
  const agent = await tokens.authenticate(bearer(await token(ACCOUNT)));
  assert.deepEqual([agent.node, callerKey(agent)], ['node-a', 'node node-a']);
  const username = 'system:serviceaccount:shop:web';
  for (const answer of [review({ user: { ...USER, username } }), review({ user: { ...USER, username, extra: {} } })]) {
    api.answer = async () => answer;
    const workload = await tokens.authenticate(bearer(await token(username, { seconds: 100 + api.asked })));
    assert.equal(workload.node, undefined);
    assert.equal(callerKey(workload), workload.pod === undefined ? 'shop/web' : 'pod uid-1');
  }
});

test('a peer with many tokens is cut off, another is served; memory stays bounded', async () => {
  const api = new FakeApi();
  api.answer = async () => review({ authenticated: false });
  const tokens = authenticator(api);
  const codes = new Map<string, number>();
  for (let index = 0; index < 300; index++) {
    const metadata = bearer(await token(`${ACCOUNT}${index}`));
    const error: unknown = await tokens.authenticate(metadata, from(`10.0.0.1:${index}`)).catch((thrown) => thrown);
    assert.ok(error instanceof AmbitError);
    codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
  }
  assert.deepEqual(Object.fromEntries(codes), {
    AUTHENTICATION: REVIEW_LIMITS.peer.burst,
    RATE_LIMITED: 300 - REVIEW_LIMITS.peer.burst,
  });
  assert.equal(api.asked, REVIEW_LIMITS.peer.burst);
  assert.ok(tokens.remembered <= REVIEW_LIMITS.peer.burst, 'what was not asked about is not remembered');
  api.answer = async () => review({});
  await tokens.authenticate(bearer(await token(ACCOUNT)), from('10.0.0.2:1'));
});

test('reviews that do not come back are bounded in number', async () => {
  const api = new FakeApi();
  const { promise, resolve } = Promise.withResolvers<unknown>();
  api.answer = () => promise;
  const tokens = authenticator(api);
  const calls = await Promise.all(
    Array.from({ length: REVIEW_LIMITS.maxUnderWay + 20 }, async (_, index) =>
      bearer(await token(`${ACCOUNT}${index}`)),
    ),
  );
  const outcomes = calls.map((metadata, index) => tokens.authenticate(metadata, from(`10.1.${index}.1:1`)));
  const all = Promise.allSettled(outcomes);
  await assert.rejects(outcomes.at(-1) ?? Promise.resolve(), { code: 'RATE_LIMITED' });
  resolve(review({}));
  assert.equal((await all).filter(({ status }) => status === 'fulfilled').length, REVIEW_LIMITS.maxUnderWay);
});

function keysOf(sets: readonly unknown[], now: () => number): { keys: TokenKeys; asked: () => number } {
  let asked = 0;
  const request = async (): Promise<unknown> => {
    const answer = sets[Math.min(asked++, sets.length - 1)];
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { keys: new TokenKeys({ request }, now), asked: () => asked };
}
const jwks = (kid: string, key: KeyObject = publicKey) => ({
  keys: [{ ...key.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' }],
});

test('a token with a wrong signature never reaches the API server, whatever key it names', async () => {
  const api = new FakeApi();
  const tokens = authenticator(api, { keys: keysOf([jwks('one')], () => NOW).keys });
  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  for (let index = 0; index < 200; index++) {
    const forged = bearer(
      await token(`${ACCOUNT}${index}`, { key: stranger, kid: index % 2 === 0 ? 'one' : `k${index}` }),
    );
    await assert.rejects(tokens.authenticate(forged, from('10.0.0.1:1')), {
      code: 'AUTHENTICATION',
      message: /not signed/,
    });
  }
  assert.equal(api.asked, 0);
  await tokens.authenticate(bearer(await token(ACCOUNT)), from('10.0.0.1:1'));
  assert.equal(api.asked, 1);
});

test('many agents may come from one address: what is signed is limited in total only', async () => {
  const api = new FakeApi();
  const tokens = authenticator(api, { keys: keysOf([jwks('one')], () => NOW).keys });
  for (let index = 0; index < REVIEW_LIMITS.peer.burst + 20; index++) {
    await tokens.authenticate(bearer(await token(`${ACCOUNT}${index}`)), from('10.0.0.1:1'));
  }
  assert.equal(api.asked, REVIEW_LIMITS.peer.burst + 20);
});

test('a new key of the API server is learned, but unknown keys do not make it be asked all the time', async () => {
  let now = NOW;
  const next = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { keys, asked } = keysOf([jwks('one'), jwks('two', next.publicKey)], () => now);
  assert.equal(await keys.verify(await token(ACCOUNT), 'one'), 'signed');
  const rotated = await token(ACCOUNT, { key: next.privateKey, kid: 'two' });
  for (let index = 0; index < 20; index++) assert.equal(await keys.verify(rotated, 'two'), 'forged');
  assert.equal(asked(), 1);
  now += 10_000;
  assert.equal(await keys.verify(rotated, 'two'), 'signed');
  assert.equal(asked(), 2);
});

test('a clock that is set back does not keep new keys from being learned', async () => {
  let now = NOW;
  const next = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { keys } = keysOf([jwks('one'), jwks('two', next.publicKey)], () => now);
  assert.equal(await keys.verify(await token(ACCOUNT), 'one'), 'signed');
  now -= 3_600_000;
  assert.equal(await keys.verify(await token(ACCOUNT, { key: next.privateKey, kid: 'two' }), 'two'), 'signed');
});

test('where the keys cannot be had, or make no sense, the API server decides alone', async () => {
  for (const answer of [new Error('down'), { keys: 'x' }, undefined, { keys: [] }]) {
    const { keys } = keysOf([answer], () => NOW);
    assert.equal(await keys.verify(await token(ACCOUNT), 'one'), 'unknown');
  }
});

test('of several ways the first that accepts decides, and a refusal tells whether to try again', async () => {
  const caller = { namespace: 'a', serviceAccount: 'b', node: undefined, how: 'token', expiresMs: 0 } as const;
  const refusing = (code: 'AUTHENTICATION' | 'KUBERNETES_API', reason: string): Authenticator => ({
    authenticate: async () => {
      throw new AmbitError(code, reason);
    },
  });
  const accepting: Authenticator = { authenticate: async () => caller };
  const [no, down] = [refusing('AUTHENTICATION', 'no'), refusing('KUBERNETES_API', 'down')];
  const ask = (...ways: Authenticator[]) => new AuthenticatorChain(ways).authenticate(new Metadata());
  assert.equal(await ask(no, down, accepting), caller);
  await assert.rejects(ask(no, no), { code: 'AUTHENTICATION', message: 'no; no' });
  await assert.rejects(ask(no, down), { code: 'KUBERNETES_API', message: 'no; down' });
  await assert.rejects(ask(), { code: 'AUTHENTICATION' });
});
