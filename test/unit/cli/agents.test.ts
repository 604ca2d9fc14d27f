/** How commands find the agent that knows, and what they make of agents that do not answer. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AdminEndpoint } from '../../../cli/admin-client.ts';
import { askAgents, eachOf, servingAgents } from '../../../cli/agents.ts';
import { ask } from '../../../cli/why.ts';
import { AmbitError } from '../../../core/errors.ts';
import { kubeObject } from '../../../kube/object.ts';
import { reportOf } from './node-check-cases.ts';

function agent(name: string, value: unknown, asked: string[]): AdminEndpoint {
  return {
    name,
    get: async () => {
      asked.push(name);
      if (value === undefined) throw new AmbitError('ADMIN_UNREACHABLE', `${name} is away`);
      return { status: 200, value };
    },
  };
}

describe('a question about a connection', () => {
  const elsewhere = { from: { node: 'b' }, verdict: 'allowed', said: 'by a' };
  const local = { from: { node: 'b' }, verdict: 'denied', said: 'by b' };

  test('goes to the agent of the node on which the client is', async () => {
    const asked: string[] = [];
    const report = await ask(
      [agent('a', elsewhere, asked), agent('c', elsewhere, asked), agent('b', local, asked)],
      'x',
      'y',
    );
    assert.equal(report.said, 'by b');
    assert.deepEqual(asked, ['a', 'b']);
  });

  test('is answered by another one when that agent is away', async () => {
    const asked: string[] = [];
    const report = await ask([agent('b', undefined, asked), agent('a', elsewhere, asked)], 'x', 'y');
    assert.equal(report.said, 'by a');
    await assert.rejects(ask([agent('b', undefined, asked)], 'x', 'y'), /b is away/);
  });
});

describe('the agents of a cluster', () => {
  const pod = (name: string, node: string, ready: boolean, ending = false): unknown => ({
    metadata: { name, namespace: 'istio-system', ...(ending ? { deletionTimestamp: '2026-11-21T12:00:00Z' } : {}) },
    spec: { nodeName: node },
    status: { conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
  });

  test('during a rollout the one that serves is asked, not the one that drains', () => {
    const pods = [
      pod('old-1', 'n1', true, true),
      pod('new-1', 'n1', false),
      pod('old-2', 'n2', false),
      pod('new-2', 'n2', true),
      pod('waiting', '', false),
    ].flatMap((value) => kubeObject(value) ?? []);
    assert.deepEqual(
      servingAgents(pods).map(({ name }) => name),
      ['new-1', 'new-2'],
    );
  });

  test('those that do not answer are told, and the clocks of the others are compared with the middle of the call', async () => {
    let nowMs = Date.parse('2026-11-21T12:00:00.000Z');
    const agents = servingAgents(
      [pod('a', 'n1', true), pod('b', 'n2', true)].flatMap((value) => kubeObject(value) ?? []),
    );
    const { reports, failures } = await askAgents(
      async (_namespace, name) => {
        if (name === 'b') throw new Error('refused');
        nowMs += 200;
        return reportOf();
      },
      agents,
      { probe: false, nowMs: () => nowMs },
    );
    assert.deepEqual(
      reports.map((one) => [one.agent.node, one.clockAheadMs, one.clockErrorMs]),
      [['n1', -100, 100]],
    );
    assert.deepEqual(
      failures.map((one) => [one.agent.node, one.problem]),
      [['n2', 'refused']],
    );
  });

  test('never more than so many are asked at a time', async () => {
    let running = 0;
    let most = 0;
    await eachOf([1, 2, 3, 4, 5, 6, 7], 3, async () => {
      most = Math.max(most, ++running);
      await Promise.resolve();
      running--;
    });
    assert.equal(most, 3);
  });
});
