/** The gRPC port: discovery and certificates over TLS, every call authenticated before a byte of it is read. */
import { Server, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import {
  type IstioCertificateRequest,
  type IstioCertificateResponse,
  IstioCertificateService,
} from '../api/gen/istio/v1/auth/ca_pb.js';
import { AmbitError } from '../core/errors.ts';
import { MAX_CERTIFICATE_MESSAGE_BYTES, methodDefinition, SERVER_CHANNEL_OPTIONS } from '../core/grpc.ts';
import { formatSocketAddress, type SocketAddress } from '../core/ip.ts';
import type { Identity, OpenIdentity } from './identity.ts';
import type { Part } from './part.ts';
import { addDiscovery } from './xds/discovery-method.ts';
import type { DiscoveryService } from './xds/discovery-service.ts';

export interface RpcServerTimes {
  /** Over how long streams are ended once the server stops. */
  readonly drainMs: number;
  /** How long calls in progress may take after that. */
  readonly terminationGraceMs: number;
}

export class RpcServer implements Part {
  readonly name = 'listener';
  readonly #listen: SocketAddress;
  readonly #identity: Identity;
  readonly #discovery: DiscoveryService;
  readonly #times: RpcServerTimes;
  #server: Server | undefined;
  /** In use; 0 until the server listens. */
  port = 0;

  constructor(listen: SocketAddress, identity: Identity, discovery: DiscoveryService, times: RpcServerTimes) {
    this.#listen = listen;
    this.#identity = identity;
    this.#discovery = discovery;
    this.#times = times;
  }

  /** The identity part must have started. */
  async start(): Promise<void> {
    const identity = this.#identity.opened;
    const interceptors = [identity.authentication.interceptor];
    const server = new Server({ ...SERVER_CHANNEL_OPTIONS, interceptors });
    addCertificates(server, identity);
    addDiscovery(server, this.#discovery, (call) => identity.authentication.callerOf(call.metadata));
    this.#server = server;
    const address = formatSocketAddress(this.#listen);
    this.port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(address, identity.credentials, (error, port) => {
        if (error === null) resolve(port);
        else reject(new AmbitError('CONFIGURATION', `cannot listen on ${address}: ${error.message}`));
      });
    });
  }

  /** Sends clients away one after the other, lets calls in progress finish. */
  async stop(): Promise<void> {
    const server = this.#server;
    await this.#discovery.drain(this.#times.drainMs);
    this.#discovery.close();
    if (server === undefined) return;
    await new Promise<void>((resolve) => {
      const deadline = setTimeout(() => server.forceShutdown(), this.#times.terminationGraceMs);
      server.tryShutdown(() => {
        clearTimeout(deadline);
        resolve();
      });
    });
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
