/** Installing the plugin: chains, order, atomic files, and everything gone afterwards. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { findConflist, withPlugin } from '../../../agent/install/conflist.ts';
import {
  findInstalled,
  inspectInstallation,
  installPlugin,
  OWN_CONFLISTS,
  uninstallPlugin,
} from '../../../agent/install/installer.ts';

const BRIDGE = { type: 'bridge', ipam: { type: 'host-local' } };
const ENTRY = {
  runDir: '/run/ambit',
  excludeNamespaces: ['kube-system'],
  agentNamespace: 'istio-system',
  agentPodPrefix: 'ambit-agent-',
};
const [OWN_CONFLIST = ''] = OWN_CONFLISTS;
const LIST = { cniVersion: '1.0.0', name: 'pods', disableCheck: true, plugins: [BRIDGE, { type: 'portmap' }] };

describe('network configuration lists', () => {
  it('get our plugin at their end, once, and keep everything else', () => {
    const list = findConflist(JSON.stringify(LIST));
    assert.ok(list);
    const chained = withPlugin(list, { runDir: '/run/a' });
    assert.deepEqual(chained, { ...LIST, plugins: [...LIST.plugins, { runDir: '/run/a', type: 'ambit-cni' }] });
    assert.deepEqual(withPlugin(chained, { runDir: '/run/b' }).plugins.length, 3);
  });

  it('are made from a single configuration', () => {
    const list = findConflist(JSON.stringify({ name: 'one', ...BRIDGE }));
    assert.deepEqual([list?.cniVersion, list?.plugins.length], ['0.3.1', 1]);
  });

  it('of nothing but ours are refused', () => {
    const list = findConflist('{"name":"x","plugins":[{"type":"ambit-cni"}]}');
    assert.ok(list);
    assert.throws(() => withPlugin(list, {}), { code: 'CONFIGURATION' });
  });

  for (const text of [
    '',
    '{',
    '7',
    '{"name":"x"}',
    '{"name":"x","plugins":[]}',
    '{"name":"x","plugins":[7]}',
    '{"plugins":[{"type":"a"}]}',
  ]) {
    it(`are not: ${JSON.stringify(text)}`, () => assert.equal(findConflist(text), undefined));
  }
});

describe('the installer', () => {
  let folder = '';
  const inside = (...parts: string[]) => join(folder, ...parts);
  const options = () => ({
    executable: inside('built'),
    binaryFolder: inside('bin'),
    configFolder: inside('net.d'),
    entry: ENTRY,
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'ambit-install-'));
    for (const name of ['bin', 'net.d']) mkdirSync(inside(name));
    writeFileSync(inside('built'), 'program');
    writeFileSync(inside('net.d', '05-broken.conflist'), '{');
    writeFileSync(inside('net.d', '10-pods.conflist'), JSON.stringify(LIST));
    writeFileSync(inside('net.d', '20-other.conf'), JSON.stringify({ name: 'other', type: 'ptp' }));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('adds a list of its own that sorts first and leaves the others alone', async () => {
    await installPlugin(options());
    await installPlugin(options());
    assert.deepEqual(readdirSync(inside('net.d')), [
      OWN_CONFLIST,
      '05-broken.conflist',
      '10-pods.conflist',
      '20-other.conf',
    ]);
    const own = JSON.parse(readFileSync(inside('net.d', OWN_CONFLIST), 'utf8'));
    assert.deepEqual([own.name, own.plugins.at(-1)], ['pods', { ...ENTRY, type: 'ambit-cni' }]);
    assert.equal(statSync(inside('net.d', OWN_CONFLIST)).mode & 0o777, 0o600);
    assert.equal(statSync(inside('bin', 'ambit-cni')).mode & 0o777, 0o755);
    assert.equal(readFileSync(inside('net.d', '10-pods.conflist'), 'utf8'), JSON.stringify(LIST));
    assert.deepEqual(readdirSync(inside('bin')), ['ambit-cni']);
    assert.deepEqual(await findInstalled(options()), [inside('net.d', OWN_CONFLIST), inside('bin', 'ambit-cni')]);
    await uninstallPlugin(options());
    await uninstallPlugin(options());
    assert.deepEqual(await findInstalled(options()), []);
    assert.deepEqual(readdirSync(inside('bin')), []);
    assert.ok(!readdirSync(inside('net.d')).includes(OWN_CONFLIST));
  });

  it('takes a name that sorts before every other network, and drops the one it had', async () => {
    await installPlugin(options());
    writeFileSync(inside('net.d', '01-early.conflist'), JSON.stringify({ ...LIST, name: 'early' }));
    assert.deepEqual(await inspectInstallation(options()), [
      `00-ambit.conflist is missing in ${inside('net.d')}`,
      'superfluous: 02-ambit.conflist',
    ]);
    await installPlugin(options());
    const names = readdirSync(inside('net.d'));
    assert.deepEqual([names[0], names.includes('02-ambit.conflist')], ['00-ambit.conflist', false]);
    assert.equal(JSON.parse(readFileSync(inside('net.d', '00-ambit.conflist'), 'utf8')).name, 'early');
    await uninstallPlugin(options());
    assert.ok(!readdirSync(inside('net.d')).includes('00-ambit.conflist'));
  });

  for (const [what, spoil, found] of [
    ['a removed program', () => rmSync(inside('bin', 'ambit-cni')), /ambit-cni is missing in/],
    ['a replaced program', () => writeFileSync(inside('bin', 'ambit-cni'), 'another'), /ambit-cni is another build/],
    [
      'a program of the same size',
      () => writeFileSync(inside('bin', 'ambit-cni'), 'prOgram'),
      /ambit-cni is another build/,
    ],
    ['a removed list', () => rmSync(inside('net.d', OWN_CONFLIST)), /02-ambit.conflist is missing in/],
    ['a list that was edited', () => writeFileSync(inside('net.d', OWN_CONFLIST), '{}'), /differs from the primary/],
    [
      'a primary network that changed',
      () => writeFileSync(inside('net.d', '10-pods.conflist'), JSON.stringify({ ...LIST, cniVersion: '0.4.0' })),
      /differs from the primary/,
    ],
  ] satisfies [string, () => void, RegExp][]) {
    it(`notices ${what} and repairs it`, async () => {
      await installPlugin(options());
      assert.deepEqual(await inspectInstallation(options()), []);
      spoil();
      const problems = await inspectInstallation(options());
      assert.equal(problems.length, 1);
      assert.match(problems[0] ?? '', found);
      await installPlugin(options());
      assert.deepEqual(await inspectInstallation(options()), []);
    });
  }

  it('writes nothing where nothing is to change', async () => {
    await installPlugin(options());
    const before = [inside('bin', 'ambit-cni'), inside('net.d', OWN_CONFLIST)].map((path) => statSync(path).ino);
    await installPlugin(options());
    const after = [inside('bin', 'ambit-cni'), inside('net.d', OWN_CONFLIST)].map((path) => statSync(path).ino);
    assert.deepEqual(after, before);
  });

  it('removes the drafts of a run that was killed', async () => {
    await installPlugin(options());
    writeFileSync(inside('bin', 'ambit-cni.tmp'), 'half');
    chmodSync(inside('bin', 'ambit-cni.tmp'), 0o600);
    writeFileSync(inside('net.d', '02-ambit.conflist.tmp'), 'half');
    await uninstallPlugin(options());
    assert.deepEqual(readdirSync(inside('bin')), []);
    assert.deepEqual(readdirSync(inside('net.d')), ['05-broken.conflist', '10-pods.conflist', '20-other.conf']);
  });

  it('makes a list of a single configuration, which stays as it is', async () => {
    rmSync(inside('net.d', '10-pods.conflist'));
    await installPlugin(options());
    const own = JSON.parse(readFileSync(inside('net.d', OWN_CONFLIST), 'utf8'));
    assert.deepEqual(
      [own.name, own.plugins.map(({ type }: { type: string }) => type)],
      ['other', ['ptp', 'ambit-cni']],
    );
    assert.equal(readFileSync(inside('net.d', '20-other.conf'), 'utf8'), '{"name":"other","type":"ptp"}');
  });

  it('passes over files that are empty, and says so when no other is left', async () => {
    for (const name of ['10-pods.conflist', '20-other.conf']) writeFileSync(inside('net.d', name), '');
    await assert.rejects(installPlugin(options()), /no network configuration in .* to chain to/);
    writeFileSync(inside('net.d', '20-other.conf'), JSON.stringify({ name: 'other', type: 'ptp' }));
    await installPlugin(options());
    assert.deepEqual(await inspectInstallation(options()), []);
  });

  it('names a folder of the runtime that is not there', async () => {
    rmSync(inside('net.d'), { recursive: true });
    await assert.rejects(installPlugin(options()), /net\.d cannot be read/);
    mkdirSync(inside('net.d'));
    writeFileSync(inside('net.d', '10-pods.conflist'), JSON.stringify(LIST));
    rmSync(inside('bin'), { recursive: true });
    await assert.rejects(installPlugin(options()), /bin\/ambit-cni cannot be written/);
  });

  it('says that there is nothing to chain to yet', async () => {
    for (const name of readdirSync(inside('net.d'))) rmSync(inside('net.d', name));
    await assert.rejects(installPlugin(options()), { code: 'CONFIGURATION' });
  });
});
