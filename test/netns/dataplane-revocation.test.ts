/** Revocation lists at work: tunnels that are refused and tunnels that are cut, on either side, and what is told of it. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { formatSpiffeId } from '../../core/spiffe.ts';
import { certificateKey } from '../../hbone/revocation.ts';
import type { TestDataplane } from '../support/dataplane.ts';
import { eventually } from '../support/eventually.ts';
import { readBytes } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

/** Gives the pod's identity a new certificate; its key in revocation lists. */
async function issueAgain(mesh: TwoNodes, node: TestDataplane, account: string): Promise<string> {
  const identity = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount: account });
  const leaf = mesh.authority.issue({ uris: [identity] });
  node.dataplane.putIdentity(identity, { ...leaf, rootsPem: mesh.authority.pem });
  // Every worker has it when it answers what it was asked afterwards.
  await node.dataplane.collect();
  return certificateKey(new X509Certificate(leaf.certificateChainPem).raw);
}

const rejections = (node: TestDataplane, reporter: 'source' | 'destination'): Promise<number> =>
  node.gauge('istio_crl_policy_rejections', { reporter });

/** Resolves when the connection is gone, however it ends. */
function gone(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on('error', () => undefined).on('close', () => resolve());
  socket.resume();
  return promise;
}

async function exchange(socket: Socket): Promise<void> {
  socket.write('x');
  assert.equal(String(await readBytes(socket, 1)), 'x');
}

for (const [side, reporter] of [
  ['server', 'destination'],
  ['client', 'source'],
] as const) {
  test(`the ${side}'s agent cuts live tunnels of a revoked peer, refuses new ones, and lets a new certificate in`, async () => {
    const { mesh, near, far } = await TwoNodes.start();
    await using _ = mesh;
    await (await mesh.server.process()).listen(8080, 'echo');
    const [judge, judged, account] = side === 'server' ? [far, near, 'client'] : [near, far, 'server'];
    const key = await issueAgain(mesh, judged, account);
    const application = await mesh.client.process();
    const live = await application.connect(mesh.server.address, 8080);
    await exchange(live);

    judge.dataplane.setRevocations({ keys: ['somebody else'], problem: undefined });
    await exchange(live);
    assert.equal(await rejections(judge, reporter), 0);

    const closed = gone(live);
    judge.dataplane.setRevocations({ keys: [key], problem: undefined });
    await closed;
    assert.ok((await rejections(judge, reporter)) >= 1);

    const refused = await application.connect(mesh.server.address, 8080);
    refused.write('x');
    await gone(refused);
    await eventually('it is counted', async () => assert.ok((await rejections(judge, reporter)) >= 2));
    assert.ok(((await judge.refusals()).CERT_REVOKED ?? 0) >= 1, JSON.stringify(await judge.refusals()));

    await issueAgain(mesh, judged, account);
    const again = await application.connect(mesh.server.address, 8080);
    await exchange(again);
    again.destroy();
  });
}

test('while it is not known what is revoked nobody is believed; a worker that is replaced knows too', async () => {
  const { mesh, far } = await TwoNodes.start({ workers: 1 });
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'echo');
  const application = await mesh.client.process();
  far.dataplane.setRevocations({ keys: [], problem: 'the file is damaged' });
  const attempt = async (): Promise<void> => {
    const socket = await application.connect(mesh.server.address, 8080);
    socket.write('x');
    await gone(socket);
  };
  await attempt();
  await far.dataplane.replaceWorker(0);
  const before = await rejections(far, 'destination');
  await eventually('refused again, once it listens', async () => {
    await attempt();
    assert.ok((await rejections(far, 'destination')) > before);
  });
  far.dataplane.setRevocations({ keys: [], problem: undefined });
  const socket = await application.connect(mesh.server.address, 8080);
  await exchange(socket);
  socket.destroy();
});
