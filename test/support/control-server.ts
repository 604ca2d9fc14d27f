/**
 * A gRPC server over TLS on loopback with the two services an agent talks to, each scripted by the test, and a root of
 * its own. Everything it was asked is kept. `close` ends streams and sockets.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
} from '@grpc/grpc-js';
import type { ControlEndpoint } from '../../agent/state/control-channel.ts';
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
} from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import {
  type IstioCertificateRequest,
  type IstioCertificateResponse,
  IstioCertificateService,
} from '../../api/gen/istio/v1/auth/ca_pb.js';
import { type Issuer, type SubjectAltName, signLeaf, signRoot } from '../../control/ca/certificate.ts';
import { methodDefinition } from '../../core/grpc.ts';

const HOUR_MS = 3_600_000;

export type DiscoveryCall = ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
export type CertificateHandler = (
  request: IstioCertificateRequest,
  metadata: Metadata,
  reply: sendUnaryData<IstioCertificateResponse>,
) => void;

/** A root with its key. */
export class TestRoot {
  readonly pem: string;
  readonly #issuer: Issuer;

  constructor(commonName = 'test root') {
    const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#issuer = { name: { organization: 'test', commonName }, ...keys };
    this.pem = signRoot(this.#issuer, validity(HOUR_MS)).pem;
  }

  /** A leaf for the key. */
  sign(publicKey: KeyObject, names: readonly SubjectAltName[], lifetimeMs = HOUR_MS): string {
    return signLeaf(this.#issuer, publicKey, names, validity(lifetimeMs)).pem;
  }
}

export class ControlServer {
  readonly root: TestRoot;
  readonly streams: DiscoveryCall[] = [];
  readonly certificateRequests: IstioCertificateRequest[] = [];
  /** Called for every new discovery stream. */
  onStream: (call: DiscoveryCall) => void = () => {};
  onCertificate: CertificateHandler = (_request, _metadata, reply) => reply({ code: 12, details: 'not scripted' });
  #server = new Server();
  readonly #folder = mkdtempSync(join(tmpdir(), 'ambit-control-'));
  #port = 0;

  private constructor(root: TestRoot) {
    this.root = root;
    this.writeFile('root.pem', root.pem);
    this.writeFile('token', 'first-token\n');
  }

  static async start(root = new TestRoot()): Promise<ControlServer> {
    const server = new ControlServer(root);
    await server.#listen();
    return server;
  }

  /** Ends every stream and socket, then listens on the same port again. */
  async restart(): Promise<void> {
    this.#server.forceShutdown();
    await this.#listen();
  }

  async #listen(): Promise<void> {
    this.#server = new Server();
    this.#server.addService(
      { deltaAggregatedResources: methodDefinition(AggregatedDiscoveryService.method.deltaAggregatedResources) },
      {
        deltaAggregatedResources: (call: DiscoveryCall) => {
          this.streams.push(call);
          call.on('error', () => {});
          this.onStream(call);
        },
      },
    );
    this.#server.addService(
      { createCertificate: methodDefinition(IstioCertificateService.method.createCertificate) },
      {
        createCertificate: (
          call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
          reply: sendUnaryData<IstioCertificateResponse>,
        ) => {
          this.certificateRequests.push(call.request);
          this.onCertificate(call.request, call.metadata, reply);
        },
      },
    );
    const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const chain = this.root.sign(keys.publicKey, [{ kind: 'ip', value: '127.0.0.1' }]);
    const key = keys.privateKey.export({ type: 'pkcs8', format: 'pem' });
    const credentials = ServerCredentials.createSsl(null, [
      { cert_chain: Buffer.from(chain), private_key: Buffer.from(key) },
    ]);
    this.#port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(`127.0.0.1:${this.#port}`, credentials, (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
  }

  get port(): number {
    return this.#port;
  }

  /** How a client reaches this server. */
  get endpoint(): ControlEndpoint {
    return {
      address: `127.0.0.1:${this.#port}`,
      rootCaFile: this.path('root.pem'),
      tokenFile: this.path('token'),
      clusterId: 'cluster-1',
    };
  }

  path(file: string): string {
    return join(this.#folder, file);
  }

  /** Writes one of the files of the endpoint (`root.pem`, `token`). */
  writeFile(file: string, content: string): void {
    writeFileSync(this.path(file), content);
  }

  /** Ends every stream and socket at once. */
  close(): void {
    this.#server.forceShutdown();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function validity(lifetimeMs: number) {
  const nowMs = Date.now();
  return { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + lifetimeMs };
}
