/**
 * Memory of an idle agent, as it runs in production: one worker, connected to the control plane, pods captured, metrics read.
 *
 * Measured on the development machine (x86-64): 38 MB of its own (RssAnon); 60 MB together with the pages of the executable that are in
 * use (VmRSS), of which most are shared by all processes of the same Node. From the sources the former is 78 MB.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { buildAgent } from '../../agent/build.ts';
import { eventually } from '../support/eventually.ts';
import { SharedMesh } from '../support/shared-mesh.ts';

const MB = 1024;
const MAX_OWN_KB = 55 * MB;
const MAX_RESIDENT_KB = 90 * MB;
/** Agents give memory back when they have been idle for some seconds. */
const SETTLE_MS = 20_000;

test('an idle agent with captured pods stays within its memory', async () => {
  await using mesh = await SharedMesh.start({
    program: await buildAgent(),
    environment: { AMBIT_WORKERS: '1' },
  });
  const [node] = mesh.nodes;
  assert.ok(node);
  const pods = [await mesh.addPod(node, 'first'), await mesh.addPod(node, 'second')];
  const [pod] = pods;
  assert.ok(pod);
  const agent = mesh.agentOf(pod);
  agent.get(15020, '/metrics');
  const pid = agent.child.pid;
  assert.ok(pid);

  await eventually(
    'the memory of the agent',
    () => {
      const [own, resident] = [kilobytes(pid, 'RssAnon'), kilobytes(pid, 'VmRSS')];
      assert.ok(own < MAX_OWN_KB && resident < MAX_RESIDENT_KB, `${own} kB of its own, ${resident} kB resident`);
    },
    SETTLE_MS,
  );
  // What was given back was nothing that it needs.
  agent.get(15000, '/config_dump');
  assert.equal(agent.child.exitCode, null);
});

function kilobytes(pid: number, field: string): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  assert.ok(match, `no ${field}`);
  return Number(match[1]);
}
