/**
 * What strangers and a damaged disk can do to the control plane: request targets that are no URL on the status port, a
 * state folder that lost a part, a configuration folder of which a part cannot be read.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { FileRootStore } from '../../control/ca/file-root-store.ts';
import { FILE_SOURCE_TIMES, FileSource } from '../../control/sources/files.ts';
import { listFolder } from '../../control/sources/folder-scan.ts';
import type { ChangeSet } from '../../control/sources/source.ts';
import { openStatusServer } from '../../control/status-server.ts';
import { getIp } from '../../core/ip.ts';

function folder(context: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'ambit-hostile-'));
  context.after(() => rmSync(path, { recursive: true }));
  return path;
}

async function answerTo(port: number, target: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.end(`GET ${target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes;
  });
  await once(socket, 'close', { signal: AbortSignal.timeout(3000) });
  return text.slice(0, 12);
}

test('no request target ends the process behind the status port', async (context) => {
  const source = {
    pending: () => [],
    metrics: async () => ({ contentType: 'text/plain', text: '' }),
    views: new Map([['clients', () => []]]),
  };
  const { server, port } = await openStatusServer({ ip: getIp('127.0.0.1'), port: 0 }, source);
  context.after(() => server.close());
  for (const target of ['//', 'http://', '//[', 'http://x:99999/', '*', '/debug/__proto__']) {
    assert.equal(await answerTo(port, target), 'HTTP/1.1 404', target);
  }
  assert.equal(await answerTo(port, '/debug/clients'), 'HTTP/1.1 200');
});

test('a state folder without its list of roots is an error, not a reason for a new root', async (context) => {
  const state = folder(context);
  const open = async (): Promise<FileRootStore> => {
    const store = new FileRootStore(state, 'cluster.local');
    await store.open();
    return store;
  };
  const store = await open();
  const root = store.make(3_600_000, Date.now(), Date.now());
  await store.store([root]);
  renameSync(join(state, 'ca', 'roots.json'), join(state, 'elsewhere.json'));
  await assert.rejects(open(), { code: 'CONFIGURATION' });
  renameSync(join(state, 'elsewhere.json'), join(state, 'ca', 'roots.json'));
  const ids = (await open()).roots.map(({ id }) => id);
  assert.deepEqual(ids, [root.id], 'its key was not thrown away meanwhile');
});

test('a part of the configuration folder that cannot be read does not look as if its files were gone', (context) => {
  const root = folder(context);
  mkdirSync(join(root, 'policies'));
  writeFileSync(join(root, 'policies', 'deny.yaml'), 'kind: AuthorizationPolicy\n');
  assert.deepEqual([...listFolder(root).files.keys()], ['policies/deny.yaml']);
  symlinkSync('a-loop', join(root, 'policies', 'a-loop'));
  assert.throws(() => listFolder(root), { code: 'ELOOP' });
});

/** What a control plane that starts now reads of the folder. */
async function startOn(config: string, kept: string): Promise<ChangeSet['upserted']> {
  const source = new FileSource(config, FILE_SOURCE_TIMES, kept);
  const objects: ChangeSet['upserted'][number][] = [];
  const { promise: synced, resolve } = Promise.withResolvers<void>();
  await source.start({
    changed: ({ upserted }) => objects.push(...upserted),
    synced: resolve,
    problems: () => undefined,
  });
  await synced;
  await source.close();
  return objects;
}

test('a restart does not forget a policy whose file was broken meanwhile', async (context) => {
  const [config, kept] = [folder(context), folder(context)];
  const deny = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: nobody, namespace: shop }
spec: { action: DENY, rules: [{}] }
`;
  const file = join(config, 'policies.yaml');
  writeFileSync(file, deny);
  assert.equal((await startOn(config, kept)).length, 1);
  for (const mistake of [deny.replace('DENY', 'DENYY'), `${deny.slice(0, -4)}[`]) {
    writeFileSync(file, mistake);
    const [policy] = await startOn(config, kept);
    assert.equal(policy?.kind === 'AuthorizationPolicy' && policy.action, 'DENY', mistake);
  }
  assert.equal((await startOn(config, folder(context))).length, 0, 'the file alone says nothing');
});
