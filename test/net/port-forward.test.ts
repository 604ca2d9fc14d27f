/** Connections to ports of pods, against the kubelet's end of the protocol written from its description. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { KubeClient } from '../../kube/client.ts';
import { getPodPage } from '../../kube/pod-http.ts';
import { openPodPort } from '../../kube/port-forward.ts';
import { frame, parseFrame } from '../../kube/web-socket.ts';
import { temporaryFolder } from '../support/control.ts';
import { createAuthority } from '../support/pki.ts';

/** A frame of a server: not masked. */
function serverFrame(payload: Buffer): Buffer {
  const head = Buffer.alloc(payload.length < 126 ? 2 : 4);
  head.writeUInt8(0x82, 0);
  if (payload.length < 126) head.writeUInt8(payload.length, 1);
  else {
    head.writeUInt8(126, 1);
    head.writeUInt16BE(payload.length, 2);
  }
  return Buffer.concat([head, payload]);
}

/** Payloads of the masked binary frames in `bytes`. */
function* clientPayloads(bytes: Buffer): Generator<Buffer> {
  for (let rest = bytes; rest.length >= 6; ) {
    const short = rest.readUInt8(1) & 0x7f;
    const header = short === 126 ? 4 : 2;
    const length = short === 126 ? rest.readUInt16BE(2) : short;
    const mask = rest.subarray(header, header + 4);
    const payload = Buffer.from(rest.subarray(header + 4, header + 4 + length));
    for (let index = 0; index < length; index++) payload[index] = (payload[index] ?? 0) ^ (mask[index & 3] ?? 0);
    if ((rest.readUInt8(0) & 0x0f) === 2) yield payload;
    rest = rest.subarray(header + 4 + length);
  }
}

interface World {
  readonly client: KubeClient;
  /** Paths that were asked for. */
  readonly paths: string[];
}

/** An API server that forwards to `port` of this machine, or tells `error`. */
async function openWorld(context: TestContext, port: number, error?: string): Promise<World> {
  const authority = createAuthority();
  const identity = authority.issue({ ipAddresses: ['127.0.0.1'] });
  const paths: string[] = [];
  const server = createServer(
    { key: identity.privateKeyPem, cert: identity.certificateChainPem },
    (_request, response) =>
      response.writeHead(403, { 'content-type': 'application/json' }).end('{"message":"not you","reason":"Forbidden"}'),
  );
  const sockets = new Set<Duplex>();
  server.on('connection', (socket) => sockets.add(socket));
  server.on('upgrade', (request, socket) => {
    paths.push(request.url ?? '');
    socket.on('error', () => undefined);
    const key = request.headers['sec-websocket-key'] ?? '';
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    const head = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
    const protocol = `Sec-WebSocket-Protocol: ${request.headers['sec-websocket-protocol'] ?? ''}`;
    socket.write([...head, `Sec-WebSocket-Accept: ${accept}`, protocol, '', ''].join('\r\n'));
    for (const channel of [0, 1]) socket.write(serverFrame(Buffer.from([channel, port & 0xff, port >> 8])));
    if (error !== undefined) {
      socket.write(serverFrame(Buffer.concat([Buffer.from([1]), Buffer.from(error)])));
      return;
    }
    const target = connect(port, '127.0.0.1');
    target.on('error', () => socket.destroy());
    target.on('data', (data) => socket.write(serverFrame(Buffer.concat([Buffer.from([0]), Buffer.from(data)]))));
    socket.on('data', (data: Buffer) => {
      for (const payload of clientPayloads(data)) target.write(payload.subarray(1));
    });
    socket.on('close', () => target.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port: serverPort } = server.address() as AddressInfo;
  const folder = temporaryFolder(context);
  const kubeconfig = join(folder, 'kubeconfig');
  const cluster = { server: `https://127.0.0.1:${serverPort}`, 'certificate-authority-data': btoa(authority.pem) };
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user: { token: 'secret' } }],
    }),
    { mode: 0o600 },
  );
  const client = KubeClient.open({ kubeconfig, userAgent: 'test' });
  context.after(() => {
    client.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { client, paths };
}

const TARGET = { namespace: 'istio-system', pod: 'ambit-control-1', port: 0 };

test('a page of a pod is read through the API server', async (context) => {
  const page = createHttpServer((request, response) =>
    response.end(JSON.stringify({ path: request.url, big: 'x'.repeat(50_000) })),
  );
  await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve));
  context.after(() => page.close());
  const { port } = page.address() as AddressInfo;
  const world = await openWorld(context, port);
  const answer = await getPodPage(world.client, { ...TARGET, port }, '/debug/clients', 5000);
  assert.deepEqual(answer, { path: '/debug/clients', big: 'x'.repeat(50_000) });
  assert.deepEqual(world.paths, [`/api/v1/namespaces/istio-system/pods/ambit-control-1/portforward?ports=${port}`]);
});

test('what the kubelet says on the error channel ends the connection', async (context) => {
  const world = await openWorld(context, 15014, 'nothing listens there');
  await assert.rejects(getPodPage(world.client, { ...TARGET, port: 15014 }, '/', 5000), /nothing listens there/);
});

test('a connection that is given up is closed on the other side too', async (context) => {
  const closed = Promise.withResolvers<void>();
  const page = createHttpServer(() => undefined);
  page.on('connection', (socket) => socket.on('close', () => closed.resolve()));
  await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve));
  context.after(() => page.close());
  const { port } = page.address() as AddressInfo;
  const world = await openWorld(context, port);
  const stream = await openPodPort(world.client, { ...TARGET, port });
  stream.destroy();
  await closed.promise;
});

test('frames of any size come back as they were; a masked frame of a server is no frame', () => {
  for (const length of [0, 1, 125, 126, 65_535, 65_536]) {
    const payload = Buffer.alloc(length, 7);
    const masked = frame(2, payload);
    assert.equal(parseFrame(masked), 'malformed');
    const size = length < 126 ? 2 : length < 65_536 ? 4 : 10;
    assert.equal(masked.length, size + 4 + length);
  }
  assert.equal(parseFrame(Buffer.from([0x82])), 'more');
  assert.deepEqual(parseFrame(Buffer.from([0x82, 1, 9, 9])), {
    opcode: 2,
    final: true,
    payload: Buffer.from([9]),
    length: 3,
  });
});
