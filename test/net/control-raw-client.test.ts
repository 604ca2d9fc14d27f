/**
 * A stranger's client, written from the protocol facts alone: gRPC frames over `node:http2`, protobuf by hand. It shares
 * neither the generated code nor grpc-js with the control plane, so it notices when both are wrong in the same way.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2';
import { type TestContext, test } from 'node:test';
import { checkServerIdentity } from 'node:tls';
import { makeRequest, opensslVerify } from '../support/certificate-request.ts';
import { ControlFixture } from '../support/control.ts';

const POD = `apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, annotations: {ambient.istio.io/redirection: enabled}}
spec: {nodeName: node-a, serviceAccountName: web}
status: {podIP: 10.0.0.1}
`;

/** A length-delimited field. */
function field(number: number, content: string | Uint8Array): Buffer {
  const bytes = typeof content === 'string' ? Buffer.from(content) : Buffer.from(content);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function number(fieldNumber: number, value: number): Buffer {
  return Buffer.concat([varint(fieldNumber << 3), varint(value)]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest & 127) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** Fields by number, in order: bytes of length-delimited ones, numbers of varints. */
function parse(bytes: Buffer): Map<number, (Buffer | number)[]> {
  const fields = new Map<number, (Buffer | number)[]>();
  let at = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = readVarint();
    const list = fields.get(tag >> 3) ?? [];
    fields.set(tag >> 3, list);
    if ((tag & 7) === 0) list.push(readVarint());
    else {
      assert.equal(tag & 7, 2);
      const length = readVarint();
      list.push(bytes.subarray(at, at + length));
      at += length;
    }
  }
  return fields;
}

function text(fields: Map<number, (Buffer | number)[]>, fieldNumber: number): string[] {
  return (fields.get(fieldNumber) ?? []).map((value) => value.toString());
}

function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

class RawCall {
  readonly #stream: ReturnType<ClientHttp2Session['request']>;
  #received = Buffer.alloc(0);
  #waiter: (() => void) | undefined;
  readonly trailers: Promise<IncomingHttpHeaders>;

  constructor(session: ClientHttp2Session, path: string, token: string) {
    this.#stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      authorization: `Bearer ${token}`,
    });
    this.#stream.on('data', (bytes: Buffer) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      this.#waiter?.();
    });
    const { promise, resolve } = Promise.withResolvers<IncomingHttpHeaders>();
    this.trailers = promise;
    this.#stream.on('trailers', resolve);
    // An answer without a body carries its status in the headers.
    this.#stream.on('response', (headers) => {
      if (headers['grpc-status'] !== undefined) resolve(headers);
    });
  }

  send(message: Buffer): void {
    this.#stream.write(frame(message));
  }

  end(): void {
    this.#stream.end();
  }

  async next(): Promise<Buffer> {
    const deadline = AbortSignal.timeout(3000);
    while (this.#received.length < 5 || this.#received.length < 5 + this.#received.readUInt32BE(1)) {
      deadline.throwIfAborted();
      await new Promise<void>((resolve) => {
        this.#waiter = resolve;
        deadline.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    const length = this.#received.readUInt32BE(1);
    const message = this.#received.subarray(5, 5 + length);
    this.#received = this.#received.subarray(5 + length);
    return message;
  }
}

async function open(context: TestContext): Promise<{ session: ClientHttp2Session; token: string; rootsPem: string }> {
  const fixture = await ControlFixture.start(context, { 'a.yaml': POD });
  const rootsPem = fixture.rootsPem();
  const session = connect(`https://127.0.0.1:${fixture.control.port}`, {
    ca: rootsPem,
    minVersion: 'TLSv1.3',
    checkServerIdentity: (_host, certificate) => checkServerIdentity('127.0.0.1', certificate),
  });
  context.after(() => session.destroy());
  const [header = ''] = (await fixture.metadata()).get('authorization').map(String);
  return { session, rootsPem, token: header.replace('Bearer ', '') };
}

test('a stranger gets a certificate', async (context) => {
  const { session, token, rootsPem } = await open(context);
  const identity = 'spiffe://cluster.local/ns/shop/sa/web';
  // Struct{1 fields: map entry{1 key, 2 Value{3 string}}}
  const metadata = field(1, Buffer.concat([field(1, 'ImpersonatedIdentity'), field(2, field(3, identity))]));
  const call = new RawCall(session, '/istio.v1.auth.IstioCertificateService/CreateCertificate', token);
  call.send(Buffer.concat([field(1, makeRequest().csr), number(3, 3600), field(4, metadata)]));
  call.end();
  const chain = text(parse(await call.next()), 1);
  assert.equal((await call.trailers)['grpc-status'], '0');
  assert.equal(new X509Certificate(chain[0] ?? '').subjectAltName, `URI:${identity}`);
  assert.equal(chain.at(-1), rootsPem);
  assert.equal(opensslVerify(rootsPem, chain[0] ?? ''), 'leaf: OK');
});

test('a stranger gets workloads over delta xDS, and nothing twice', async (context) => {
  const { session, token } = await open(context);
  const type = 'type.googleapis.com/istio.workload.Address';
  const call = new RawCall(
    session,
    '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
    token,
  );
  call.send(Buffer.concat([field(1, field(1, 'ztunnel~1.1.1.1~a.b~b.svc.cluster.local')), field(2, type)]));
  const response = parse(await call.next());
  assert.deepEqual(text(response, 4), [type]);
  const [resourceBytes] = response.get(2) ?? [];
  assert.ok(resourceBytes instanceof Buffer);
  const resource = parse(resourceBytes);
  assert.deepEqual(text(resource, 3), ['Kubernetes//Pod/shop/web-1']);
  const [any] = resource.get(2) ?? [];
  assert.ok(any instanceof Buffer);
  assert.deepEqual(text(parse(any), 1), [type]);
  const [address] = parse(any).get(2) ?? [];
  assert.ok(address instanceof Buffer);
  const [workloadBytes] = parse(address).get(1) ?? [];
  assert.ok(workloadBytes instanceof Buffer);
  const workload = parse(workloadBytes);
  assert.deepEqual(
    [text(workload, 1), text(workload, 2), text(workload, 7), text(workload, 9)],
    [['web-1'], ['shop'], ['web'], ['node-a']],
  );
  assert.deepEqual(
    workload.get(3)?.map((value) => (value instanceof Buffer ? [...value] : value)),
    [[10, 0, 0, 1]],
  );
  assert.deepEqual(workload.get(5), [1], 'HBONE');

  call.send(Buffer.concat([field(2, type), field(6, text(response, 5)[0] ?? '')]));
  call.end();
  assert.equal((await call.trailers)['grpc-status'], '0');

  const [version = ''] = text(resource, 1);
  const held = Buffer.concat([field(1, 'Kubernetes//Pod/shop/web-1'), field(2, version)]);
  const resumed = new RawCall(
    session,
    '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
    token,
  );
  resumed.send(Buffer.concat([field(2, type), field(5, held)]));
  assert.equal(parse(await resumed.next()).get(2), undefined);
  resumed.end();
});

test('a stranger without a token is told so in the status, and garbage does no harm', async (context) => {
  const { session, token } = await open(context);
  const path = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
  const call = new RawCall(session, path, 'x.y.z');
  call.end();
  assert.equal((await call.trailers)['grpc-status'], '16');
  const garbage = new RawCall(session, path, token);
  garbage.send(Buffer.from('ffffffffffffffffffff', 'hex'));
  garbage.end();
  assert.equal((await garbage.trailers)['grpc-status'], '13');
  const unknown = new RawCall(session, '/istio.v1.auth.IstioCertificateService/Steal', token);
  unknown.end();
  assert.equal((await unknown.trailers)['grpc-status'], '12');
});
