/**
 * gRPC methods for `@grpc/grpc-js` made from protobuf descriptors, and the limits both ends keep.
 *
 * A descriptor of api/gen is all a client or a server needs: there is no second code generator. Messages are encoded
 * and decoded by `@bufbuild/protobuf`; bytes that do not decode end the call with INTERNAL inside grpc-js and never
 * reach a handler. What peers mean by a message is not decided here.
 */
import { isIP } from 'node:net';
import { checkServerIdentity, createSecureContext } from 'node:tls';
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import {
  type CallOptions,
  ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type Metadata,
  type MethodDefinition,
  type ServiceError,
} from '@grpc/grpc-js';
import { AmbitError } from './errors.ts';

/** The largest discovery response a client accepts, bytes. Istio's ztunnel uses the same number. */
export const MAX_DISCOVERY_RESPONSE_BYTES = 200 * 1024 * 1024;
/** The largest discovery request a server accepts, bytes: a resume of a mesh with 100,000 resources fits. */
export const MAX_DISCOVERY_REQUEST_BYTES = 16 * 1024 * 1024;
/** The largest certificate request or answer, bytes. */
export const MAX_CERTIFICATE_MESSAGE_BYTES = 64 * 1024;

const KEEPALIVE: ChannelOptions = { 'grpc.keepalive_time_ms': 30_000, 'grpc.keepalive_timeout_ms': 10_000 };

/** Channel options of the agents' clients: 30 s keepalive with 10 s patience, no proxy taken from the environment. */
export const CLIENT_CHANNEL_OPTIONS: ChannelOptions = {
  ...KEEPALIVE,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_receive_message_length': MAX_DISCOVERY_RESPONSE_BYTES,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_retries': 0,
  'grpc.service_config_disable_resolution': 1,
};

/** Server options of the control plane. */
export const SERVER_CHANNEL_OPTIONS: ChannelOptions = {
  ...KEEPALIVE,
  'grpc.max_concurrent_streams': 64,
  'grpc.max_connection_idle_ms': 600_000,
  'grpc.max_receive_message_length': MAX_DISCOVERY_REQUEST_BYTES,
  'grpc.max_send_message_length': MAX_DISCOVERY_RESPONSE_BYTES,
  // Node's own bound on what one HTTP/2 session may hold, megabytes.
  'grpc-node.max_session_memory': 64,
};

type AnyMethod<I extends DescMessage, O extends DescMessage> = DescMethodUnary<I, O> | DescMethodBiDiStreaming<I, O>;

/**
 * The definition of one method for `Server.addService` (as a value of the service's record) and for `Client`. Requests
 * longer than `maxRequestBytes` end with INTERNAL before they are decoded.
 */
export function methodDefinition<I extends DescMessage, O extends DescMessage>(
  method: AnyMethod<I, O>,
  maxRequestBytes = MAX_DISCOVERY_REQUEST_BYTES,
): MethodDefinition<MessageShape<I>, MessageShape<O>> {
  const streaming = method.methodKind === 'bidi_streaming';
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: streaming,
    responseStream: streaming,
    requestSerialize: (message) => asBuffer(toBinary(method.input, message)),
    requestDeserialize: (bytes) => {
      if (bytes.length > maxRequestBytes) throw new AmbitError('DECODE', `longer than ${maxRequestBytes} bytes`);
      return fromBinary(method.input, bytes);
    },
    responseSerialize: (message) => asBuffer(toBinary(method.output, message)),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
    originalName: method.localName,
  };
}

/** A channel to `host:port`. The owner closes it with `close()`. */
export function openClient(address: string, credentials: ChannelCredentials, options: ChannelOptions = {}): Client {
  return new Client(address, credentials, { ...CLIENT_CHANNEL_OPTIONS, ...options });
}

export interface TlsTarget {
  /** `host:port`; the host is a DNS name or an IP address. */
  readonly address: string;
  /** Undefined: the roots of the system. */
  readonly rootsPem?: string | undefined;
  /** Name the certificate must carry where it is not the host of `address`. */
  readonly serverName?: string | undefined;
  /** Shown to servers that ask for a certificate. PEM; the leaf comes first. */
  readonly identity?: { readonly chainPem: string; readonly keyPem: string } | undefined;
}

/** Sent as SNI where the server is known by its IP address: RFC 6066 section 3 allows no addresses there. */
const NAMELESS_SERVER = 'control-plane.invalid';

/**
 * A TLS 1.3 channel. The certificate must be valid for the host of the address, an IP address included, or for
 * `serverName`. The owner closes it. Throws when the roots are not PEM.
 */
export function openTlsClient(target: TlsTarget, options: ChannelOptions = {}): Client {
  const context = createSecureContext({
    minVersion: 'TLSv1.3',
    ...(target.rootsPem === undefined ? {} : { ca: target.rootsPem }),
    ...(target.identity === undefined ? {} : { cert: target.identity.chainPem, key: target.identity.keyPem }),
  });
  const host = target.serverName ?? target.address.replace(/:[0-9]+$/, '').replace(/^\[(.*)\]$/, '$1');
  const byAddress = isIP(host) !== 0;
  const credentials = ChannelCredentials.createFromSecureContext(
    context,
    byAddress ? { checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate) } : {},
  );
  return openClient(target.address, credentials, {
    'grpc.ssl_target_name_override': byAddress ? NAMELESS_SERVER : host,
    ...options,
  });
}

/** One request, one answer. Rejects with grpc-js's `ServiceError` (`code` is a gRPC status). */
export function callUnary<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  metadata: Metadata,
  options: CallOptions = {},
): Promise<MessageShape<O>> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  return new Promise((resolve, reject) => {
    const answer = (error: ServiceError | null, value?: MessageShape<O>): void => {
      if (error !== null) reject(error);
      else resolve(value ?? create(method.output));
    };
    const message = create(method.input, request);
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, metadata, options, answer);
  });
}

/** A stream in both directions. The caller adds `error` and `status` listeners in the same tick. */
export function openBidiStream<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodBiDiStreaming<I, O>,
  metadata: Metadata,
  options: CallOptions = {},
): ClientDuplexStream<MessageShape<I>, MessageShape<O>> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  return client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata, options);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
