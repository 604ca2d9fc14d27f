/**
 * A stranger's gRPC and xDS client, written from the protocol facts alone: gRPC frames over `node:http2`, protobuf by
 * hand. It shares neither generated code nor grpc-js with the control plane, so it notices when both are wrong in the
 * same way, and it can do what a well-behaved client never does.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type IncomingHttpHeaders } from 'node:http2';
import type { TestContext } from 'node:test';
import { checkServerIdentity } from 'node:tls';
import { bytesOf, type Fields, field, messagesOf, parseFields, textsOf } from './raw-protobuf.ts';

export const DELTA_PATH = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';

/** An HTTP/2 connection over TLS 1.3 that trusts `rootsPem`; closed with the test. */
export function openRawSession(context: TestContext, port: number, rootsPem: string): ClientHttp2Session {
  const session = connect(`https://127.0.0.1:${port}`, {
    ca: rootsPem,
    // Whatever a test wants to send, the client itself must not be what refuses it.
    maxSessionMemory: 1000,
    minVersion: 'TLSv1.3',
    checkServerIdentity: (_host, certificate) => checkServerIdentity('127.0.0.1', certificate),
  });
  session.on('error', () => undefined);
  context.after(() => session.destroy());
  return session;
}

/** One gRPC message with its frame head. */
export function grpcFrame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** One call: messages out, messages in, and how it ended. */
export class RawCall {
  readonly stream: ClientHttp2Stream;
  #chunks: Buffer[] = [];
  #length = 0;
  #waiter: (() => void) | undefined;
  /** Bytes received in all. */
  received = 0;
  /** Trailers, or the headers of an answer without a body; empty when the connection went away. */
  readonly ended: Promise<IncomingHttpHeaders>;

  constructor(session: ClientHttp2Session, path: string, token: string | undefined) {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const head = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    this.stream = session.request({ ...head, ...authorization });
    const { promise, resolve } = Promise.withResolvers<IncomingHttpHeaders>();
    this.ended = promise;
    // Trailers may come after an error of what is still being sent, and before the close.
    this.stream.on('error', () => undefined);
    this.stream.on('close', () => resolve({}));
    this.stream.on('trailers', resolve);
    // An answer without a body carries its status in the headers.
    this.stream.on('response', (headers) => {
      if (headers['grpc-status'] !== undefined) resolve(headers);
    });
  }

  /** Reads from now on. */
  read(): this {
    this.stream.on('data', (bytes: Buffer) => {
      this.#chunks.push(bytes);
      this.#length += bytes.length;
      this.received += bytes.length;
      this.#waiter?.();
    });
    return this;
  }

  send(message: Uint8Array): void {
    this.stream.write(grpcFrame(message));
  }

  end(): void {
    this.stream.end();
  }

  /** The next message. */
  async next(timeoutMs = 5000): Promise<Buffer> {
    const deadline = AbortSignal.timeout(timeoutMs);
    for (;;) {
      const message = this.#take();
      if (message !== undefined) return message;
      if (deadline.aborted) throw new Error(`no message within ${timeoutMs} ms`);
      await new Promise<void>((resolve) => {
        this.#waiter = resolve;
        deadline.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }

  /** True when a message is there. */
  get hasMessage(): boolean {
    return this.#length >= 5 && this.#length >= 5 + this.#whole().readUInt32BE(1);
  }

  #take(): Buffer | undefined {
    if (!this.hasMessage) return undefined;
    const whole = this.#whole();
    const end = 5 + whole.readUInt32BE(1);
    this.#chunks = [whole.subarray(end)];
    this.#length -= end;
    return whole.subarray(5, end);
  }

  #whole(): Buffer {
    const [first] = this.#chunks;
    const needed = first !== undefined && first.length >= 5 ? 5 + first.readUInt32BE(1) : 5;
    // Pieces are joined when a message is complete, not with every piece.
    if (this.#chunks.length > 1 && ((first?.length ?? 0) < 5 || this.#length >= needed)) {
      this.#chunks = [Buffer.concat(this.#chunks)];
    }
    return this.#chunks[0] ?? Buffer.alloc(0);
  }
}

export interface RawRequest {
  readonly type: string;
  readonly nodeId?: string;
  readonly subscribe?: readonly string[];
  readonly unsubscribe?: readonly string[];
  readonly held?: Readonly<Record<string, string>>;
  readonly nonce?: string;
  readonly refusal?: string;
}

/** DeltaDiscoveryRequest. */
export function encodeRequest(request: RawRequest): Buffer {
  const { type, nodeId, subscribe = [], unsubscribe = [], held = {}, nonce, refusal } = request;
  return Buffer.concat([
    ...(nodeId === undefined ? [] : [field(1, field(1, nodeId))]),
    field(2, type),
    ...subscribe.map((name) => field(3, name)),
    ...unsubscribe.map((name) => field(4, name)),
    ...Object.entries(held).map(([name, version]) => field(5, Buffer.concat([field(1, name), field(2, version)]))),
    ...(nonce === undefined ? [] : [field(6, nonce)]),
    ...(refusal === undefined ? [] : [field(7, field(2, refusal))]),
  ]);
}

export interface RawResource {
  readonly name: string;
  readonly version: string;
  readonly aliases: readonly string[];
  /** Type in the envelope, and content. */
  readonly type: string;
  readonly content: Buffer;
}

export interface RawResponse {
  readonly type: string;
  readonly nonce: string;
  readonly resources: readonly RawResource[];
  readonly removed: readonly string[];
  /** `ControlPlane.identifier`. */
  readonly controlPlane: string;
  readonly bytes: number;
}

/** DeltaDiscoveryResponse. */
export function decodeResponse(message: Buffer): RawResponse {
  const fields = parseFields(message);
  const [controlPlane] = messagesOf(fields, 7);
  return {
    type: textsOf(fields, 4)[0] ?? '',
    nonce: textsOf(fields, 5)[0] ?? '',
    resources: messagesOf(fields, 2).map(decodeResource),
    removed: textsOf(fields, 6),
    controlPlane: controlPlane === undefined ? '' : (textsOf(controlPlane, 1)[0] ?? ''),
    bytes: message.length,
  };
}

function decodeResource(fields: Fields): RawResource {
  const [any] = messagesOf(fields, 2);
  return {
    version: textsOf(fields, 1)[0] ?? '',
    name: textsOf(fields, 3)[0] ?? '',
    aliases: textsOf(fields, 4),
    type: any === undefined ? '' : (textsOf(any, 1)[0] ?? ''),
    content: (any === undefined ? undefined : bytesOf(any, 2)[0]) ?? Buffer.alloc(0),
  };
}

/** A delta xDS stream. */
export class RawXdsStream {
  readonly call: RawCall;

  constructor(session: ClientHttp2Session, token: string | undefined) {
    this.call = new RawCall(session, DELTA_PATH, token).read();
  }

  send(request: RawRequest): void {
    this.call.send(encodeRequest(request));
  }

  async next(timeoutMs?: number): Promise<RawResponse> {
    return decodeResponse(await this.call.next(timeoutMs));
  }

  async nextAcknowledged(timeoutMs?: number): Promise<RawResponse> {
    const response = await this.next(timeoutMs);
    this.send({ type: response.type, nonce: response.nonce });
    return response;
  }

  /** gRPC status and text of the end. */
  async ended(): Promise<{ status: string; text: string }> {
    const headers = await this.call.ended;
    const text = headers['grpc-message'];
    return { status: String(headers['grpc-status'] ?? ''), text: decodeURI(typeof text === 'string' ? text : '') };
  }
}
