/** The gRPC port: discovery and certificates over TLS, every call authenticated before a byte of it is read. */
import { setTimeout as delay } from 'node:timers/promises';
import { Server, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import {
  type IstioCertificateRequest,
  type IstioCertificateResponse,
  IstioCertificateService,
} from '../api/gen/istio/v1/auth/ca_pb.js';
import { MAX_CERTIFICATE_MESSAGE_BYTES, methodDefinition, SERVER_CHANNEL_OPTIONS } from '../core/grpc.ts';
import type { SocketAddress } from '../core/ip.ts';
import type { Identity, OpenIdentity } from './identity.ts';
import type { ControlListener } from './listener.ts';
import type { Part } from './part.ts';
import { addDiscovery } from './xds/discovery-method.ts';
import type { DiscoveryService } from './xds/discovery-service.ts';

export interface RpcServerTimes {
  /** Over how long streams are ended once the server stops. */
  readonly drainMs: number;
  /** New clients are served this long after the stop began: until everybody knows that they should go elsewhere. */
  readonly lingerMs: number;
  /** How long calls in progress may take after that. */
  readonly terminationGraceMs: number;
}

export interface RpcServerParts {
  readonly listener: ControlListener;
  readonly identity: Identity;
  readonly discovery: DiscoveryService;
}

export class RpcServer implements Part {
  readonly name = 'listener';
  readonly #address: SocketAddress;
  readonly #listener: ControlListener;
  readonly #identity: Identity;
  readonly #discovery: DiscoveryService;
  readonly #times: RpcServerTimes;
  #server: Server | undefined;
  /** In use; 0 until the server listens. */
  port = 0;

  constructor(address: SocketAddress, parts: RpcServerParts, times: RpcServerTimes) {
    this.#address = address;
    this.#listener = parts.listener;
    this.#identity = parts.identity;
    this.#discovery = parts.discovery;
    this.#times = times;
  }

  /** The identity part must have started. */
  async start(): Promise<void> {
    const identity = this.#identity.opened;
    const interceptors = this.#listener.interceptors(identity.authentication.interceptor);
    const server = new Server({ ...SERVER_CHANNEL_OPTIONS, interceptors });
    addCertificates(server, identity);
    addDiscovery(server, this.#discovery, (call) => identity.authentication.callerOf(call.metadata));
    this.#server = server;
    this.port = await this.#listener.listen(server, identity.credentials, this.#address);
  }

  /** Sends clients away one after the other, lets calls in progress finish. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    const { drainMs, lingerMs } = this.#times;
    await Promise.all([this.#discovery.drain(drainMs), lingerMs === 0 ? undefined : delay(lingerMs)]);
    this.#discovery.close();
    this.#listener.stopListening();
    // The answer comes before the last streams have ended: it does not know connections that were handed to it.
    await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
    await this.#listener.close(this.#times.terminationGraceMs);
    server.forceShutdown();
  }

  pending(): readonly string[] {
    return this.port === 0 ? [this.name] : [];
  }
}

function addCertificates(server: Server, { authentication, certificates }: OpenIdentity): void {
  const { createCertificate } = IstioCertificateService.method;
  server.addService(
    { createCertificate: methodDefinition(createCertificate, MAX_CERTIFICATE_MESSAGE_BYTES) },
    {
      createCertificate: (
        call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
        answer: sendUnaryData<IstioCertificateResponse>,
      ) => {
        const caller = authentication.callerOf(call.metadata);
        void certificates.answer(caller, call.request, call.getPeer()).then((result) => {
          if (result.kind === 'issued') answer(null, result.response);
          else answer(result.refusal);
        });
      },
    },
  );
}
