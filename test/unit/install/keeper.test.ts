/** Keeping the plugin installed: waiting for a network, repairing, and not fighting at full speed. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findRival, InstallationKeeper, KEEPER_TIMES, type KeeperTimes } from '../../../agent/install/keeper.ts';
import { eventually } from '../../support/eventually.ts';

const LIST = { cniVersion: '1.0.0', name: 'pods', plugins: [{ type: 'bridge' }] };
const OWN = '02-ambit.conflist';
/** Large enough for copying to take a moment. */
const PROGRAM_BYTES = 32 * 1024 * 1024;

async function keeperIn(context: TestContext, times: Partial<KeeperTimes> = {}, primary = true) {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-keeper-'));
  for (const name of ['bin', 'net.d']) mkdirSync(join(folder, name));
  writeFileSync(join(folder, 'built'), Buffer.alloc(PROGRAM_BYTES, 'program'));
  const putPrimary = () => writeFileSync(join(folder, 'net.d', '10-pods.conflist'), JSON.stringify(LIST));
  if (primary) putPrimary();
  const keeper = new InstallationKeeper(
    {
      executable: join(folder, 'built'),
      binaryFolder: join(folder, 'bin'),
      configFolder: join(folder, 'net.d'),
      entry: { runDir: '/run/ambit', excludeNamespaces: [], agentNamespace: 'a', agentPodPrefix: 'a-' },
    },
    { ...KEEPER_TIMES, settleMs: 5, pollMs: 50, ...times },
  );
  context.after(async () => {
    await keeper.close();
    rmSync(folder, { recursive: true });
  });
  await keeper.start();
  return { keeper, putPrimary, configFolder: join(folder, 'net.d'), own: join(folder, 'net.d', OWN), folder };
}

test('a node without a network yet is waited for, and served once it has one', async (context) => {
  const { keeper, putPrimary, own } = await keeperIn(context, {}, false);
  const status = keeper.status();
  assert.match(status.state === 'incomplete' ? status.problem : '', /no network configuration in .* to chain to/);
  putPrimary();
  await eventually('the list is there', () => assert.ok(existsSync(own)));
  await eventually('the keeper says so', () => assert.equal(keeper.status().state, 'installed'));
});

test('a list that is removed, and a primary network that is rewritten, are repaired without being polled for', async (context) => {
  const { keeper, own, configFolder } = await keeperIn(context, { pollMs: 3_600_000 });
  rmSync(own);
  await eventually('the list is back', () => assert.ok(existsSync(own)));
  writeFileSync(join(configFolder, '10-pods.conflist'), JSON.stringify({ ...LIST, name: 'renamed' }));
  await eventually('the list follows', () => assert.match(readFileSync(own, 'utf8'), /renamed/));
  assert.equal(keeper.status().state, 'installed');
});

test('changes that are seen during the first look do not start a second one beside it', async (context) => {
  // The look is slow enough for its own writing to be noticed before it ends.
  const { keeper, folder } = await keeperIn(context, { settleMs: 0 });
  assert.deepEqual(keeper.counts, { installed: 1, failed: 0 });
  assert.ok(!existsSync(join(folder, 'bin', 'ambit-cni.tmp')));
});

test('a rival that removes the list again and again gets a bounded number of repairs, and the node is not ready', async (context) => {
  const { keeper, own } = await keeperIn(context, { repairEveryMs: 3_600_000, repairsSaved: 3, pollMs: 5 });
  for (let round = 1; round <= 2; round++) {
    rmSync(own);
    await eventually('the list is back', () => assert.ok(existsSync(own)));
  }
  await eventually('the last repair is counted', () => assert.equal(keeper.counts.installed, 3));
  rmSync(own);
  await eventually('the keeper holds back', () => assert.equal(keeper.status().state, 'incomplete'));
  assert.equal(keeper.counts.installed, 3);
});

test('Cilium is recognised by what it leaves behind', async (context) => {
  const { own, configFolder, keeper } = await keeperIn(context);
  await keeper.close();
  assert.match(await findRival(configFolder), /unknown/);
  renameSync(own, `${own}.cilium_bak`);
  assert.match(await findRival(configFolder), /cni.exclusive=false/);
});
