/** The page about a node: what agents write, command lines read; and what it says about certificates and pods. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { limitOfDescriptors } from '../../../agent/admin/machine.ts';
import { describeIdentity, describePod, type NodeStatus, nodeReport } from '../../../agent/admin/node-report.ts';
import type { PodView } from '../../../agent/enrol/pod-entry.ts';
import { Certificates } from '../../../agent/state/certificates.ts';
import { readNodeReport } from '../../../cli/node-report.ts';
import { AmbitError } from '../../../core/errors.ts';
import { getIp } from '../../../core/ip.ts';
import { identityOf, ScriptedSource } from '../../support/certificate-source.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';

const POD: PodView = {
  state: 'enrolled',
  pod: { uid: 'u1', name: 'web', namespace: 'shop', serviceAccount: 'web', ips: [getIp('10.0.0.1')] },
  netnsPath: '/var/run/netns/x',
  enrolledAt: '2026-11-21T12:00:00Z',
  problem: undefined,
};

const STATUS: NodeStatus = {
  hostNetns: undefined,
  report: {
    node: 'n1',
    pod: 'ambit-agent-x',
    pending: [],
    retired: false,
    problems: ['pod shop/x: no namespace (attempt 3)'],
    installation: {
      binaryFolder: '/opt/cni/bin',
      configFolder: '/etc/cni/net.d',
      netnsFolder: '/var/run/netns',
      foundBy: 'containerd',
      state: 'installed',
      chain: {
        file: '02-ambit.conflist',
        ownFile: '02-ambit.conflist',
        files: ['02-ambit.conflist'],
        plugins: ['bridge', 'ambit-cni'],
        programBytes: 1,
        problem: undefined,
      },
    },
    probes: 'recognised',
    pods: [describePod(POD, new Map([['u1', 'passed']]))],
    identities: [],
    xds: { connected: true, since: '2026-11-21T12:00:00Z' },
  },
};

describe('the report of a node', () => {
  test('is read by the command line as the agent wrote it, through JSON', async () => {
    const written = await nodeReport(STATUS);
    const read = readNodeReport('n1', JSON.parse(JSON.stringify(written)));
    assert.equal(read.kernel, written.kernel);
    assert.ok(Math.abs(Date.parse(read.clock) - Date.now()) < 10_000);
    assert.ok((read.descriptors?.used ?? 0) > 0 && (read.descriptors?.limit ?? 0) > (read.descriptors?.used ?? 0));
    assert.ok(read.memoryBytes > 10_000_000);
    assert.deepEqual(read.installation?.chain.plugins, ['bridge', 'ambit-cni']);
    assert.deepEqual(read.problems, STATUS.report.problems);
    assert.deepEqual(
      read.pods.map(({ name, state, since, selfTest }) => [name, state, since, selfTest]),
      [['web', 'enrolled', '2026-11-21T12:00:00Z', 'passed']],
    );
    assert.deepEqual(read.xds, { connected: true, since: '2026-11-21T12:00:00Z' });
  });

  test('of an agent that knows more or less than the command line is read, too', () => {
    const read = readNodeReport('n1', {
      version: '9.0.0',
      clock: '2026-11-21T12:00:00Z',
      later: { field: 1 },
      pods: [{ namespace: 'a', name: 'b', state: 'dancing' }],
    });
    assert.deepEqual([read.version, read.pods[0]?.state, read.identities], ['9.0.0', 'dancing', []]);
    assert.throws(
      () => readNodeReport('n1', 'ready\n'),
      (error) =>
        error instanceof AmbitError &&
        error.code === 'ADMIN_UNREACHABLE' &&
        /agent of n1 gave no report/.test(error.message),
    );
  });

  test('has a self-test only where one was asked for, and says which pod was not reached', () => {
    assert.equal(describePod(POD, undefined).selfTest, undefined);
    assert.equal(describePod(POD, new Map()).selfTest, 'not tried');
  });

  test('knows the soft limit of descriptors', () => {
    assert.equal(
      limitOfDescriptors(
        'Max processes 5 5\nMax open files            1024                 524288               files\n',
      ),
      1024,
    );
    assert.equal(
      limitOfDescriptors('Max open files            unlimited            unlimited            files\n'),
      undefined,
    );
  });
});

describe('certificates in the report', () => {
  test('tell of renewals that fail while the old one is still good, until one succeeds', async () => {
    const clock = new FakeClock();
    const source = new ScriptedSource(clock);
    const certificates = new Certificates({ source, clock, random: () => 0.5 });
    const identity = identityOf('a');
    const { notAfterMs, notBeforeMs } = await certificates.get(identity);
    const shown = () => certificates.status().map(describeIdentity)[0];
    assert.deepEqual([shown()?.failures, shown()?.lastFailure], [0, undefined]);
    source.mode = 'refuse';
    await clock.advance((notAfterMs - notBeforeMs) / 2 + 60_000);
    await settle();
    const failing = shown();
    assert.equal(failing?.state, 'available');
    assert.ok((failing?.failures ?? 0) >= 1, JSON.stringify(failing));
    assert.ok(failing?.lastFailure !== undefined && failing.notAfter === new Date(notAfterMs).toISOString());
    source.mode = 'issue';
    await clock.advance(600_000);
    await settle();
    assert.deepEqual([shown()?.failures, shown()?.lastFailure === undefined], [0, false]);
    certificates.close();
  });
});
