/** Rights of callers whose token is bound to a pod, of certificates, and patience with pods that are not known yet. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Caller } from '../../../control/authentication.ts';
import { ISSUANCE_RATES, IssuanceRates } from '../../../control/ca/issuance-rates.ts';
import { NewsWait } from '../../../control/ca/news-wait.ts';
import {
  authorizeIdentity,
  type NodeAuthorizationRules,
  type PodFacts,
} from '../../../control/ca/node-authorization.ts';

const AGENT_POD: PodFacts = { uid: 'u1', serviceAccount: 'ztunnel', nodeName: 'node-a', terminal: false };

function rules(pod: PodFacts | undefined): NodeAuthorizationRules {
  return {
    trustDomain: 'cluster.local',
    trustedNodeAccounts: new Set(['istio-system/ztunnel']),
    nodeRuns: (node, namespace, account) => `${node}/${namespace}/${account}` === 'node-a/shop/web',
    findPod: (namespace, name) => (`${namespace}/${name}` === 'istio-system/agent-1' ? pod : undefined),
  };
}

const AGENT: Caller = {
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
  node: 'node-a',
  pod: { name: 'agent-1', uid: 'u1' },
  how: 'token',
  expiresMs: 0,
};
const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const OWN = 'spiffe://cluster.local/ns/istio-system/sa/ztunnel';
const CERTIFICATE: Caller = { ...AGENT, how: 'certificate', node: undefined, pod: undefined };

/** `later`: refused, and news of a pod could change that. `no`: refused for good. */
type Outcome = 'granted' | 'later' | 'no';
const ROWS: [name: string, caller: Caller, pod: PodFacts | undefined, requested: string | undefined, Outcome][] = [
  ['an agent for a pod on its node', AGENT, AGENT_POD, WEB, 'granted'],
  ['an agent for itself', AGENT, AGENT_POD, OWN, 'granted'],
  ['an agent for itself without saying so', AGENT, AGENT_POD, undefined, 'granted'],
  ['the pod of the agent is not known', AGENT, undefined, WEB, 'later'],
  ['nor for itself then', AGENT, undefined, undefined, 'later'],
  ['the pod of that name is another one', AGENT, { ...AGENT_POD, uid: 'u2' }, WEB, 'later'],
  ['the pod has another account', AGENT, { ...AGENT_POD, serviceAccount: 'other' }, WEB, 'no'],
  ['the pod has ended', AGENT, { ...AGENT_POD, terminal: true }, WEB, 'no'],
  ['the pod has ended, its own identity', AGENT, { ...AGENT_POD, terminal: true }, OWN, 'no'],
  ['the pod is on another node than the token says', AGENT, { ...AGENT_POD, nodeName: 'node-b' }, WEB, 'no'],
  ['the pod is on no node yet', AGENT, { ...AGENT_POD, nodeName: '' }, WEB, 'later'],
  ['the token names no node: that of the pod counts', { ...AGENT, node: undefined }, AGENT_POD, WEB, 'granted'],
  ['neither names a node', { ...AGENT, node: undefined }, { ...AGENT_POD, nodeName: '' }, WEB, 'no'],
  ['bound to nothing', { ...AGENT, node: undefined, pod: undefined }, AGENT_POD, WEB, 'no'],
  ['no pod of that account on the node', AGENT, AGENT_POD, 'spiffe://cluster.local/ns/shop/sa/db', 'later'],
  ['another trust domain', AGENT, AGENT_POD, 'spiffe://other/ns/shop/sa/web', 'no'],
  ['a certificate for itself', CERTIFICATE, undefined, OWN, 'granted'],
  ['a certificate for itself without saying so', CERTIFICATE, undefined, undefined, 'granted'],
  ['a certificate of an agent for another', CERTIFICATE, AGENT_POD, WEB, 'no'],
  ['a certificate of an agent with a node', { ...CERTIFICATE, node: 'node-a' }, AGENT_POD, WEB, 'no'],
];
for (const [name, caller, pod, requested, outcome] of ROWS) {
  test(`${outcome}: ${name}`, () => {
    const verdict = authorizeIdentity(caller, requested, rules(pod));
    assert.equal(verdict.kind === 'granted' ? 'granted' : verdict.transient ? 'later' : 'no', outcome);
  });
}

test('the certificate of an account that was deleted is not renewed; that of one that exists is', () => {
  const outcome = (exists: boolean, caller: Caller): string =>
    authorizeIdentity(caller, undefined, { ...rules(AGENT_POD), accountExists: () => exists }).kind;
  assert.equal(outcome(false, CERTIFICATE), 'refused');
  assert.equal(outcome(true, CERTIFICATE), 'granted');
  assert.equal(outcome(false, AGENT), 'granted', 'who comes with a token was looked at by the API server');
});

test('whoever waits for news is answered when they come, or after a second', async () => {
  const wait = new NewsWait({ pausesMs: [1, 1, 1, 1], maxWaiting: 10, maxWaitingPerKey: 10 });
  let looks = 0;
  const settledAt = (count: number) => () => ++looks >= count;
  const isTrue = (finding: boolean): boolean => finding;
  assert.equal(await wait.until('a', settledAt(3), isTrue), true);
  assert.equal(looks, 3);
  looks = 0;
  assert.equal(await wait.until('a', settledAt(100), isTrue), false);
  assert.equal(looks, 5);
});

test('only so many wait at once; the others are answered at once', async () => {
  const wait = new NewsWait({ pausesMs: [50], maxWaiting: 3, maxWaitingPerKey: 2 });
  const order: string[] = [];
  const ask = async (key: string, name: string): Promise<void> => {
    await wait.until(key, () => false, Boolean);
    order.push(name);
  };
  await Promise.all([ask('a', 'a1'), ask('a', 'a2'), ask('a', 'a3'), ask('b', 'b1'), ask('c', 'c1')]);
  assert.deepEqual(order.slice(0, 2), ['a3', 'c1']);
  order.length = 0;
  await Promise.all([ask('a', 'again'), ask('a', 'again')]);
  assert.equal(order.length, 2, 'places are given back');
});

test('a failure while waiting gives the place back', async () => {
  const wait = new NewsWait({ pausesMs: [1], maxWaiting: 1, maxWaitingPerKey: 1 });
  let looks = 0;
  const failing = (): boolean => {
    if (++looks === 2) throw new Error('broken');
    return false;
  };
  await assert.rejects(wait.until('a', failing, Boolean), /broken/);
  looks = 10;
  assert.equal(await wait.until('a', () => ++looks > 11, Boolean), true);
});

test('rates: one identity of one node, one node, and all together', () => {
  let now = 0;
  const rates = new IssuanceRates({ certificateBurst: 5, certificatesPerSecond: 1 }, () => now);
  const taken = (count: number, take: () => void): number => {
    let granted = 0;
    for (let index = 0; index < count; index++) {
      try {
        take();
        granted++;
      } catch (thrown) {
        assert.ok(thrown instanceof Error && 'code' in thrown && thrown.code === 'RATE_LIMITED');
      }
    }
    return granted;
  };
  assert.equal(
    taken(10, () => rates.countRequest('node-a')),
    5,
  );
  assert.equal(
    taken(10, () => rates.countRequest('node-b')),
    5,
  );
  assert.equal(
    taken(100, () => rates.countIssuance('node-a', WEB)),
    ISSUANCE_RATES.identity.burst,
  );
  assert.equal(
    taken(1, () => rates.countIssuance('node-b', WEB)),
    1,
    'the same identity on another node',
  );
  now += 10_000;
  let index = 0;
  const all = taken(10_000, () => rates.countIssuance(`node-${index++}`, WEB));
  assert.equal(all, ISSUANCE_RATES.total.burst);
});
