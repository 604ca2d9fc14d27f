import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { findCniFolders } from '../../../agent/install/cni-folders.ts';
import { visiblePath } from '../../../agent/install/node-path.ts';

describe('a path of the node, seen from a container', () => {
  let root: string;
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'ambit-node-'));
    mkdirSync(join(root, 'run/crio'), { recursive: true });
    writeFileSync(join(root, 'run/crio/crio.sock'), '');
    mkdirSync(join(root, 'var/snap/7'), { recursive: true });
    symlinkSync('/run', join(root, 'var/run'));
    symlinkSync('7', join(root, 'var/snap/current'));
    symlinkSync('/b', join(root, 'a'));
    symlinkSync('/a', join(root, 'b'));
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  test('follows absolute links from the root of the node', async () => {
    assert.equal(await visiblePath(root, '/var/run/crio/crio.sock'), join(root, 'run/crio/crio.sock'));
  });

  test('leaves relative links to the kernel, for they may lead elsewhere tomorrow', async () => {
    assert.equal(await visiblePath(root, '/var/snap/current/bin'), join(root, 'var/snap/current/bin'));
  });

  test('is what it was where nothing is, on the node itself, and with links that go in a circle', async () => {
    assert.equal(await visiblePath(root, '/opt/cni/bin'), join(root, 'opt/cni/bin'));
    assert.equal(await visiblePath('/', '/var/run/x'), '/var/run/x');
    assert.ok((await visiblePath(root, '/a/x')).startsWith(root));
  });

  test('makes CRI-O found where /var/run is a link', async () => {
    assert.match((await findCniFolders(root)).foundBy, /^CRI-O/);
  });
});
