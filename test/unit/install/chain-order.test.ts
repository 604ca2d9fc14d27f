/** What the runtime of a node reads first, and in which order it calls plugins. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { readChainOrder } from '../../../agent/install/chain-order.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ambit-chain-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, ...types: readonly string[]): void {
  const plugins = types.map((type) => ({ type }));
  writeFileSync(join(folder, name), JSON.stringify({ cniVersion: '1.0.0', name: 'net', plugins }));
}

test('the first file by name that can be read counts, as for the runtime', async () => {
  write('10-flannel.conflist', 'bridge', 'portmap');
  write('02-ambit.conflist', 'bridge', 'portmap', 'ambit-cni');
  writeFileSync(join(folder, '00-broken.conflist'), '{');
  writeFileSync(join(folder, 'README'), 'not one');
  writeFileSync(join(folder, 'ambit-cni'), 'program');
  assert.deepEqual(await readChainOrder(folder, folder), {
    file: '02-ambit.conflist',
    ownFile: '02-ambit.conflist',
    files: ['00-broken.conflist', '02-ambit.conflist', '10-flannel.conflist'],
    plugins: ['bridge', 'portmap', 'ambit-cni'],
    programBytes: 7,
    problem: undefined,
  });
});

test('a file of somebody that sorts before ours is told, and ours beside it', async () => {
  write('01-other.conflist', 'bridge');
  write('02-ambit.conflist', 'bridge', 'ambit-cni');
  const { file, ownFile, plugins, programBytes } = await readChainOrder(folder, join(folder, 'nowhere'));
  assert.deepEqual(
    [file, ownFile, plugins, programBytes],
    ['01-other.conflist', '02-ambit.conflist', ['bridge'], undefined],
  );
});

test('a folder without configuration, or none at all, is a problem and no failure', async () => {
  assert.equal((await readChainOrder(folder, folder)).problem, 'no configuration can be read');
  assert.match((await readChainOrder(join(folder, 'nowhere'), folder)).problem ?? '', /ENOENT/);
});
