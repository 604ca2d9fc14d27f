/** The status port for strangers: health and metrics for everybody, the views of the state for loopback alone. */
import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { openStatusServer } from '../../control/status-server.ts';
import { getIp } from '../../core/ip.ts';

const address = Object.values(networkInterfaces())
  .flatMap((list) => list ?? [])
  .find(({ internal, family }) => !internal && family === 'IPv4')?.address;

test('views are refused to callers that do not come over loopback', {
  skip: address === undefined && 'one address only',
}, async (context) => {
  const { server, port } = await openStatusServer(
    { ip: getIp('0.0.0.0'), port: 0 },
    {
      pending: () => [],
      metrics: async () => ({ contentType: 'text/plain', text: 'm 1\n' }),
      views: new Map([['clients', () => ['secret']]]),
    },
  );
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const get = async (host: string, path: string) => {
    const response = await fetch(`http://${host}:${port}${path}`);
    return { code: response.status, text: await response.text() };
  };
  assert.equal((await get('127.0.0.1', '/debug/clients')).code, 200);
  const refused = await get(address ?? '', '/debug/clients');
  assert.equal(refused.code, 403);
  assert.doesNotMatch(refused.text, /secret/);
  assert.equal((await get(address ?? '', '/debug/nothing')).code, 403, 'nor is told which views there are');
  for (const path of ['/healthz/ready', '/healthz/live', '/metrics'])
    assert.equal((await get(address ?? '', path)).code, 200);
});
