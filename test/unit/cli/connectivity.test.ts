/** How `ambit test connectivity` judges what it sees, and what it puts into a cluster. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { describe as describeDisruption, summarise } from '../../../cli/connectivity/disrupt.ts';
import { authorizationPolicy, peerAuthentication, planTest, testObjects } from '../../../cli/connectivity/objects.ts';
import {
  type ConnectionRecord,
  judgeCalls,
  judgeRecords,
  SCENARIOS,
  through,
} from '../../../cli/connectivity/scenarios.ts';
import { type Call, whyNot } from '../../../cli/connectivity/test-bed.ts';
import { analyze } from '../../../control/validation/analyze.ts';
import { Collector } from '../../../control/validation/collect.ts';
import { kubeObject } from '../../../kube/object.ts';

const GOOD: Call = { ok: true, ms: 1, detail: 'answered', server: 'echo-same', peer: '10.0.0.1' };
const BAD: Call = { ok: false, ms: 1, detail: 'ECONNRESET', server: undefined, peer: undefined };
const LOST: Call = { ...BAD, detail: 'timed out' };

describe('calls', () => {
  test('are good when the right pod answered all and saw the address of the client', () => {
    const judge = (...calls: Call[]): string => judgeCalls(calls, 'echo-same', '10.0.0.1').text;
    assert.match(judge(GOOD, GOOD), /^2 of 2/);
    assert.equal(judge(GOOD, BAD), '1 of 2 failed: ECONNRESET');
    assert.match(judge(GOOD, { ...GOOD, server: 'web' }), /answered by web/);
    assert.match(judge({ ...GOOD, peer: '10.0.0.254' }), /the server saw 10.0.0.254/);
  });

  test('are denied only when each is refused at once: a lost one proves nothing', () => {
    assert.equal(through([GOOD, GOOD], true), undefined);
    assert.match(through([GOOD, BAD], true) ?? '', /1 of 2 failed/);
    assert.equal(through([BAD, BAD], false), undefined);
    assert.match(through([BAD, GOOD], false) ?? '', /1 of 2 got through/);
    assert.match(through([BAD, LOST], false) ?? '', /lost/);
  });
});

describe('the record of a connection', () => {
  const RECORD: ConnectionRecord = {
    direction: 'inbound',
    path: 'hbone',
    sourceIdentity: 'spiffe://cluster.local/ns/t/sa/client',
    sourceWorkload: 'client',
    sourceNamespace: 't',
    destinationWorkload: 'echo-cross',
    destinationNamespace: 't',
  };
  const judge = (where: 'same' | 'cross', ...records: ConnectionRecord[]) =>
    judgeRecords(records, { namespace: 't', server: 'echo-cross', where });

  test('proves a tunnel with the identity of the client', () => {
    assert.equal(judge('cross', RECORD).level, 'ok');
    assert.equal(judge('same', { ...RECORD, path: 'same-node' }).level, 'ok');
  });

  test('proves nothing in plaintext, in memory between nodes, or with another identity', () => {
    assert.match(
      judge('cross', { ...RECORD, path: 'plaintext', sourceIdentity: undefined }).text,
      /came as plaintext, with identity none/,
    );
    assert.equal(judge('cross', { ...RECORD, path: 'same-node' }).level, 'failed');
    assert.match(
      judge('cross', { ...RECORD, sourceIdentity: 'spiffe://cluster.local/ns/t/sa/client2' }).text,
      /client2/,
    );
    assert.match(judge('cross', { ...RECORD, direction: 'outbound' }).text, /no record/);
    assert.match(judge('cross').text, /no record/);
  });
});

describe('a pod of the test', () => {
  const pod = (redirection: string | undefined, enrolled: string, ready: string): ReturnType<typeof kubeObject> =>
    kubeObject({
      metadata: {
        name: 'x',
        annotations: redirection === undefined ? {} : { 'ambient.istio.io/redirection': redirection },
      },
      status: {
        conditions: [
          ...(enrolled === '' ? [] : [{ type: 'ambit.io/Enrolled', status: enrolled, message: 'because' }]),
          { type: 'Ready', status: ready },
        ],
      },
    });
  const why = (one: ReturnType<typeof kubeObject>, inMesh: boolean): string | undefined =>
    one === undefined ? 'undefined' : whyNot(one, inMesh);

  test('is waited for until it is ready and proved to be in the mesh, or outside of it', () => {
    assert.equal(why(pod('enabled', 'True', 'True'), true), undefined);
    assert.equal(why(pod('enabled', 'False', 'True'), true), 'because');
    assert.equal(why(pod(undefined, '', 'True'), true), 'not in the mesh yet');
    assert.equal(why(pod('enabled', 'True', 'False'), true), 'not ready yet');
    assert.equal(why(pod(undefined, '', 'True'), false), undefined);
    assert.match(why(pod('enabled', 'True', 'True'), false) ?? '', /although/);
  });
});

describe('what is put into the cluster', () => {
  test('is one namespace with everything in it; on one node there is nothing across', () => {
    const kinds = (nodes: string[]): string[] =>
      testObjects(planTest('t', 'image', nodes), 'text').map((one) => `${Reflect.get(one, 'kind')}`);
    assert.equal(kinds(['a', 'b']).filter((kind) => kind === 'Pod').length, 5);
    assert.equal(kinds(['a']).filter((kind) => kind === 'Pod').length, 4);
    assert.equal(kinds(['a'])[0], 'Namespace');
  });

  test('are policies that the analysis has nothing against', () => {
    for (const action of ['ALLOW', 'DENY'] as const) {
      const collector = new Collector();
      const objects = testObjects(planTest('t', 'image', ['a', 'b']), 'text');
      for (const one of [...objects, peerAuthentication('t', 'STRICT'), authorizationPolicy('t', action)])
        collector.add(one);
      const { view, findings } = collector.finish({ complete: true });
      const found = [...findings, ...analyze(view)].filter(({ severity }) => severity !== 'info');
      assert.deepEqual(
        found.map(({ code, message }) => `${code} ${message}`),
        [],
      );
    }
  });

  test('every scenario has an id of its own', () => {
    const ids = SCENARIOS.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
  });
});

describe('the count of what broke', () => {
  const state = {
    requests: 100,
    failures: 2,
    longestMs: 51.4,
    lastFailure: '2026-11-21T12:00:00Z ECONNREFUSED',
    streams: [
      { url: 'a', lines: 10, breaks: 0, lastBreak: '' },
      { url: 'b', lines: 10, breaks: 3, lastBreak: '2026-11-21T12:00:01Z the stream ended' },
    ],
  };

  test('adds up over streams and names the last of each', () => {
    assert.equal(
      describeDisruption(summarise(state, 12_300)),
      '12 s: 100 requests, 2 failed (last 2026-11-21T12:00:00Z ECONNREFUSED), longest 51 ms; 2 streams, 3 breaks (last 2026-11-21T12:00:01Z the stream ended)',
    );
  });
});
