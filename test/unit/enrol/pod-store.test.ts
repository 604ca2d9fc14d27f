/** State files: what is saved comes back, what is damaged is set aside, nothing is half written. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { PodStore } from '../../../agent/enrol/pod-store.ts';
import type { StoredPod } from '../../../agent/enrol/stored-pod.ts';
import { getIp } from '../../../core/ip.ts';

function stored(uid: string): StoredPod {
  return {
    version: 1,
    pod: { uid, name: 'web', namespace: 'demo', serviceAccount: 'web', ips: [getIp('10.1.2.3'), getIp('fd00::1')] },
    attachment: { containerId: 'c0ffee', ifName: 'eth0' },
    netns: { path: '/run/netns/x', device: '4', inode: '18446744073709551615' },
    overrides: { captureInbound: false, virtualInterfaces: ['vm0'] },
    rules: { text: 'ab', chains: ['c'], rules: ['r'] },
    probePorts: [8080],
    leaving: false,
    enrolledAt: '2030-01-01T00:00:00.000Z',
  };
}

describe('pod store', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'ambit-store-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('gives back what was saved, until it is removed', async () => {
    const store = await PodStore.open(folder);
    await store.save(stored('uid-a'));
    await store.save(stored('uid-b'));
    await store.save({ ...stored('uid-a'), enrolledAt: 'later' });
    const next = await PodStore.open(folder);
    const expected = [{ ...stored('uid-a'), enrolledAt: 'later' }, stored('uid-b')];
    assert.deepEqual(await next.load(), { pods: expected, corrupt: [] });
    await next.remove('uid-a');
    await next.remove('uid-a');
    assert.deepEqual((await next.load()).pods, [stored('uid-b')]);
  });

  it('writes files that only the agent reads, and leaves no others', async () => {
    const store = await PodStore.open(folder);
    await store.save(stored('uid-a'));
    assert.deepEqual(readdirSync(join(folder, 'pods')), ['uid-a.json']);
    assert.equal(statSync(join(folder, 'pods', 'uid-a.json')).mode & 0o777, 0o600);
    assert.equal(statSync(join(folder, 'pods')).mode & 0o777, 0o700);
  });

  it('sets damaged files aside, says why, and keeps the others', async () => {
    const store = await PodStore.open(folder);
    await store.save(stored('uid-good'));
    const good = readFileSync(join(folder, 'pods', 'uid-good.json'), 'utf8');
    const write = (name: string, text: string) => writeFileSync(join(folder, 'pods', name), text);
    write('cut.json', good.slice(0, 100));
    write('empty.json', '');
    write('huge.json', `"${'x'.repeat(300_000)}"`);
    write('newer.json', good.replace('"version": 1', '"version": 2').replace('uid-good', 'newer'));
    write('other-name.json', good);
    write(
      'no-address.json',
      JSON.stringify({ ...stored('no-address'), pod: { ...stored('no-address').pod, ips: [] } }),
    );
    write('half.json.tmp', good);
    const { pods, corrupt } = await store.load();
    assert.deepEqual(pods, [stored('uid-good')]);
    assert.equal(corrupt.length, 6);
    assert.match(corrupt.find(({ file }) => file.includes('newer'))?.error.message ?? '', /version must be 1/);
    assert.ok(!readdirSync(join(folder, 'pods')).includes('half.json.tmp'));
    assert.deepEqual((await store.load()).corrupt, [], 'they are reported once');
  });

  it('never leaves its folder', async () => {
    const store = await PodStore.open(folder);
    await assert.rejects(store.save(stored('../escape')), { code: 'USAGE' });
    await assert.rejects(store.remove('a/b'), { code: 'USAGE' });
  });
});
