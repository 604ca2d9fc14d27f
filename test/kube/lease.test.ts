/** Election by a Lease at a real API server: one leader at a time, hand-over, loss of contact; and events on objects. */
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { isRecord } from '../../core/decoder.ts';
import { KubeClient } from '../../kube/client.ts';
import { EventRecorder } from '../../kube/events.ts';
import { LeaseElection, type LeaseTimes } from '../../kube/lease.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { kubeconfigVia } from '../support/kube-source-world.ts';
import { TcpRelay } from '../support/tcp-relay.ts';

const TIMES: LeaseTimes = { durationMs: 2000, deadlineMs: 1200, intervalMs: 200 };

let api: KubeApi;
before(async () => {
  api = await openKubeApi({ crds: false });
});
after(() => api[Symbol.asyncDispose]());

/** Who leads now; more than one at a time is a failure. */
class Candidates {
  readonly leading = new Set<string>();
  readonly history: string[] = [];
  readonly #context: TestContext;
  readonly #lease: string;

  constructor(context: TestContext, lease: string) {
    this.#context = context;
    this.#lease = lease;
  }

  start(identity: string, kubeconfig = api.kubeconfig): LeaseElection {
    const client = KubeClient.open({ kubeconfig, userAgent: 'ambit-test' });
    const election = new LeaseElection(client, {
      namespace: 'default',
      name: this.#lease,
      identity,
      times: TIMES,
      onElected: (signal) => {
        this.leading.add(identity);
        this.history.push(identity);
        assert.equal(this.leading.size, 1, 'one leader at a time');
        signal.addEventListener('abort', () => this.leading.delete(identity));
      },
      onLost: () => assert.ok(!this.leading.has(identity), 'the signal comes first'),
    });
    this.#context.after(async () => {
      await election.close();
      client.close();
    });
    election.start();
    return election;
  }

  async leads(identity: string): Promise<void> {
    await eventually(`${identity} leads`, () => assert.deepEqual([...this.leading], [identity]));
  }
}

test('of many candidates one leads; when it closes, another follows before the lease would have expired', async (context) => {
  const candidates = new Candidates(context, 'close');
  const elections = new Map(['a', 'b', 'c'].map((identity) => [identity, candidates.start(identity)]));
  await eventually('one leads', () => assert.equal(candidates.leading.size, 1));
  const [first = ''] = candidates.leading;
  await eventually('all know', () => {
    for (const election of elections.values()) assert.equal(election.leader, first);
  });
  const closedMs = performance.now();
  await elections.get(first)?.close();
  await eventually('another leads', () => assert.ok(candidates.leading.size === 1 && !candidates.leading.has(first)));
  assert.ok(performance.now() - closedMs < TIMES.durationMs, 'the lease was handed over, not waited for');
  const lease = await api.admin().get(RESOURCES.Lease, 'default', 'close');
  assert.ok(isRecord(lease.spec));
  assert.equal(lease.spec.leaseTransitions, 1);
});

test('a leader that lost contact stops before another begins', async (context) => {
  await using relay = await TcpRelay.open(api.port);
  const candidates = new Candidates(context, 'contact');
  candidates.start('far', kubeconfigVia(api, relay.port));
  await candidates.leads('far');
  candidates.start('near');
  await new Promise((resolve) => setTimeout(resolve, TIMES.durationMs));
  await candidates.leads('far');
  const { port } = relay;
  await relay[Symbol.asyncDispose]();
  await candidates.leads('near');
  assert.deepEqual(candidates.history, ['far', 'near']);
  await using again = await TcpRelay.open(api.port, port);
  await new Promise((resolve) => setTimeout(resolve, TIMES.durationMs));
  await candidates.leads('near');
  assert.ok(again.size >= 0);
});

test('a leader outlives a restart of the API server that is shorter than its deadline, or is elected again', async (context) => {
  const candidates = new Candidates(context, 'restart');
  candidates.start('a');
  await candidates.leads('a');
  await api.restart();
  await candidates.leads('a');
});

test('a lease that somebody wrote nonsense into is respected until it expires, then taken over', async (context) => {
  await api.admin().create(RESOURCES.Lease, 'default', {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: 'nonsense', namespace: 'default' },
    spec: { holderIdentity: 'nobody', leaseDurationSeconds: 1, renewTime: '2099-01-01T00:00:00.000000Z' },
  });
  const candidates = new Candidates(context, 'nonsense');
  candidates.start('a');
  await candidates.leads('a');
});

test('equal events become one object with a count; an event is never in the way', async () => {
  let now = Date.now();
  const recorder = new EventRecorder(api.admin(), 'ambit.io/test', 'test-1', () => now);
  const note = {
    regarding: { apiVersion: 'v1', kind: 'Namespace', namespace: '', name: 'default' },
    type: 'Warning',
    reason: 'Tested',
    note: 'é'.repeat(2000),
    action: 'Test',
  } as const;
  recorder.record(note);
  for (let i = 0; i < 9; i++) recorder.record(note);
  now += 61_000;
  recorder.record(note);
  await recorder.flush();
  const { items } = await api.admin().list(RESOURCES.Event, { namespace: 'default', fieldSelector: 'reason=Tested' });
  assert.equal(items.length, 1);
  const [event] = items;
  assert.ok(isRecord(event) && isRecord(event.series));
  assert.equal(event.series.count, 11);
  assert.ok(typeof event.note === 'string' && Buffer.byteLength(event.note) <= 1024);
  // Nobody there: nothing is thrown, nothing waits forever.
  const away = KubeClient.open({ kubeconfig: kubeconfigVia(api, 1), userAgent: 'ambit-test' });
  const lost = new EventRecorder(away, 'ambit.io/test');
  for (let i = 0; i < 200; i++) lost.record({ ...note, reason: `Lost${i}` });
  await lost.flush();
  assert.equal(lost.dropped, 100);
  away.close();
});
