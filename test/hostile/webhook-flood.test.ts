/** Strangers at the webhook's port, and beside each of them the API server, whose questions are answered in time. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectPlain } from 'node:net';
import { type TestContext, test } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { ObjectStore } from '../../control/model/object-store.ts';
import { WEBHOOK_LIMITS } from '../../control/webhook/server.ts';
import { objectsOf } from '../support/control.ts';
import { eventually } from '../support/eventually.ts';
import { openWebhook, policyReview, type TestWebhook, WebhookClient } from '../support/webhook.ts';

const STRANGER = '127.0.0.66';
/** The API server gives up after five seconds. */
const IN_TIME_MS = 4000;
const GOOD = policyReview({ rules: [{ from: [{ source: { namespaces: ['shop'] } }] }] });

async function open(context: TestContext, store = new ObjectStore()): Promise<TestWebhook> {
  const webhook = await openWebhook(store);
  context.after(() => webhook.server.stop());
  return webhook;
}

function strange(webhook: TestWebhook): TLSSocket {
  const { port } = webhook.server;
  const socket = connect({
    socket: connectPlain({ port, host: '127.0.0.1', localAddress: STRANGER }),
    ca: webhook.rootPem,
  });
  socket.on('error', () => undefined);
  return socket;
}

/** Asks as the API server does, ten times; every answer must be right and in time. */
async function assertInnocentServed(webhook: TestWebhook): Promise<void> {
  using client = new WebhookClient(webhook);
  for (let i = 0; i < 10; i++) {
    const { status, text, tookMs } = await client.post(GOOD);
    assert.equal(status, 200, text);
    assert.match(text, /"allowed":true/);
    assert.ok(tookMs < IN_TIME_MS, `answered after ${tookMs.toFixed(0)} ms`);
  }
}

test('beside requests without end from one address the API server is served', async (context) => {
  const webhook = await open(context);
  const stop = new AbortController();
  context.after(() => stop.abort());
  let answered = 0;
  const flood = Array.from({ length: 16 }, async () => {
    using client = new WebhookClient(webhook, STRANGER);
    while (!stop.signal.aborted) {
      await client.post(GOOD).catch(() => undefined);
      answered++;
    }
  });
  await eventually('the flood is at work', () => assert.ok(answered > 100), 20_000);
  await assertInnocentServed(webhook);
  stop.abort();
  await Promise.all(flood);
});

test('bodies that cost much time do not stop the thread', async (context) => {
  const webhook = await open(context);
  const many = Array.from({ length: 20_000 }, (_, index) => `10.0.${index >> 8}.${index & 255}/33`);
  const heavy = policyReview({ rules: [{ from: [{ source: { ipBlocks: many } }] }] });
  const stop = new AbortController();
  context.after(() => stop.abort());
  const flood = Array.from({ length: 8 }, async () => {
    using client = new WebhookClient(webhook, STRANGER);
    while (!stop.signal.aborted) await client.post(heavy).catch(() => undefined);
  });
  await eventually('the flood is at work', () => assert.ok((webhook.outcomes.get('refused') ?? 0) > 5), 20_000);
  await assertInnocentServed(webhook);
  stop.abort();
  await Promise.all(flood);
});

test('connections that say nothing, or half a request, hold no more than their share', async (context) => {
  const webhook = await open(context);
  const sockets = Array.from({ length: WEBHOOK_LIMITS.maxConnections + 50 }, () => strange(webhook));
  context.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  for (const [index, socket] of sockets.entries()) {
    if (index % 2 === 0) socket.once('secureConnect', () => socket.write('POST /validate HTTP/1.1\r\nhost: x\r\n'));
  }
  const closed = (): number => sockets.filter((socket) => socket.destroyed).length;
  await eventually(
    'the surplus is closed',
    () => assert.ok(closed() >= sockets.length - WEBHOOK_LIMITS.maxConnectionsPerAddress),
    20_000,
  );
  await assertInnocentServed(webhook);
});

test('a body that is announced and never comes is given up', async (context) => {
  const webhook = await open(context);
  const socket = strange(webhook);
  await once(socket, 'secureConnect');
  socket.write('POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{');
  await assertInnocentServed(webhook);
  await once(socket.resume(), 'close', { signal: AbortSignal.timeout(WEBHOOK_LIMITS.requestTimeoutMs + 4000) });
});

test('a body beyond the limit is refused while it arrives', async (context) => {
  const webhook = await open(context);
  using client = new WebhookClient(webhook, STRANGER);
  const reply = await client.post('x'.repeat(WEBHOOK_LIMITS.maxBodyBytes + 1_000_000)).catch((error) => error as Error);
  // The connection may be gone before the answer was read.
  if (!(reply instanceof Error)) assert.equal(reply.status, 413);
  await assertInnocentServed(webhook);
});

test('what is no review is told so, and nothing of it ends the process', async (context) => {
  const webhook = await open(context);
  using client = new WebhookClient(webhook, STRANGER);
  const deep = '['.repeat(500_000);
  const nested = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`;
  for (const body of ['', '{', 'null', '[]', deep, nested, '{"apiVersion":"admission.k8s.io/v1"}']) {
    const { status } = await client.post(body);
    assert.equal(status, 400, body.slice(0, 40));
  }
  const update = JSON.parse(GOOD) as { request: Record<string, unknown> };
  update.request.operation = 'UPDATE';
  const text = JSON.stringify(update).replace('"object":{', `"oldObject":{"spec":${nested}},"object":{"x":${nested},`);
  const { status } = await client.post(text);
  assert.ok(status === 200 || status === 500, String(status));
  assert.equal((await client.post(GOOD, '/')).status, 404);
  assert.equal((await client.post(GOOD, '/validate', { 'content-type': 'text/plain' })).status, 415);
  const plain = strange(webhook);
  await once(plain, 'secureConnect');
  plain.write('\0\x16\x03 garbage\r\n\r\n');
  await once(plain.resume(), 'close', { signal: AbortSignal.timeout(3000) });
  await assertInnocentServed(webhook);
});

test('a burst of the API server is smoothed, not refused', async (context) => {
  const webhook = await open(context);
  const clients = Array.from({ length: 20 }, () => new WebhookClient(webhook));
  context.after(() => {
    for (const client of clients) client[Symbol.dispose]();
  });
  const statuses = await Promise.all(
    clients.flatMap((client) => Array.from({ length: 20 }, async () => (await client.post(GOOD)).status)),
  );
  assert.deepEqual(new Set(statuses), new Set([200]));
});

test('many large bodies at once hold a bounded amount of memory', async (context) => {
  const webhook = await open(context);
  const large = `${GOOD.slice(0, -1)},"x":"${'x'.repeat(WEBHOOK_LIMITS.maxBodyBytes - 2000)}"}`;
  const count = 3 * Math.ceil(WEBHOOK_LIMITS.maxHeldBytesPerAddress / large.length);
  const sockets = Array.from({ length: count }, () => strange(webhook));
  context.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  for (const socket of sockets) {
    await once(socket, 'secureConnect');
    socket.resume();
    socket.write(
      `POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${large.length}\r\n\r\n`,
    );
    // All but the end, so that what arrives is held.
    socket.write(large.slice(0, -1));
  }
  await eventually('the surplus is refused', () => assert.ok((webhook.outcomes.get('failed') ?? 0) > 0), 15_000);
  await assertInnocentServed(webhook);
});

test('a mesh of many pods does not make one question expensive', async (context) => {
  const store = new ObjectStore();
  const [pod] = objectsOf(
    '{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: n0, labels: {app: a}}, spec: {nodeName: a, containers: []}}',
  );
  assert.ok(pod?.kind === 'Pod');
  const upserted = Array.from({ length: 100_000 }, (_, index) => ({
    ...pod,
    meta: { ...pod.meta, name: `p${index}`, namespace: `n${index % 500}` },
  }));
  const namespaces = Array.from(
    { length: 500 },
    (_, index) => `{apiVersion: v1, kind: Namespace, metadata: {name: n${index}}}`,
  );
  store.apply({ upserted: [...objectsOf(namespaces.join('\n---\n')), ...upserted], removed: [] });
  const webhook = await open(context, store);
  const spec = {
    selector: { matchLabels: { app: 'nobody' } },
    rules: [{ from: [{ source: { namespaces: ['n1'] } }] }],
  };
  const review = policyReview(spec).replaceAll('"shop"', '"istio-system"');
  using stranger = new WebhookClient(webhook, STRANGER);
  for (let i = 0; i < 30; i++) {
    const { status, tookMs } = await stranger.post(review);
    assert.ok(status === 200 || status === 429, String(status));
    assert.ok(tookMs < WEBHOOK_LIMITS.maxWaitMs + IN_TIME_MS, `${tookMs.toFixed(0)} ms`);
  }
  await assertInnocentServed(webhook);
});
