/**
 * The CA of a replica on a real API server, without the rest of the control plane: its store, its authentication and its
 * RPC on loopback, pods watched as the source does. And what tests ask it.
 */
import type { TestContext } from 'node:test';
import { Metadata, Server, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import {
  type IstioCertificateRequest,
  type IstioCertificateResponse,
  IstioCertificateService,
} from '../../api/gen/istio/v1/auth/ca_pb.js';
import { ClientCertificateAuthenticator } from '../../control/authentication/client-certificate.ts';
import { KubernetesTokenAuthenticator } from '../../control/authentication/kubernetes-tokens.ts';
import { TokenKeys } from '../../control/authentication/token-keys.ts';
import { AuthenticatorChain, CallAuthentication } from '../../control/authentication.ts';
import { CertificateAuthority } from '../../control/ca/authority.ts';
import { CertificateService } from '../../control/ca/certificate-service.ts';
import { IssuanceRates } from '../../control/ca/issuance-rates.ts';
import { podFacts } from '../../control/ca/pod-view.ts';
import type { RootStore } from '../../control/ca/root-store.ts';
import { ROTATION_POLICY, type RotationPolicy } from '../../control/ca/rotation.ts';
import { ControlMetrics } from '../../control/metrics.ts';
import { ObjectStore } from '../../control/model/object-store.ts';
import { pod as podDecoder } from '../../control/objects/pod.ts';
import { RenewingServerCredentials } from '../../control/server-certificate.ts';
import { decode } from '../../core/decoder.ts';
import { callUnary, methodDefinition, openTlsClient, SERVER_CHANNEL_OPTIONS } from '../../core/grpc.ts';
import type { KubeClient } from '../../kube/client.ts';
import { kubeObject } from '../../kube/object.ts';
import { Reflector } from '../../kube/reflector.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { makeRequest } from './certificate-request.ts';

export const TRUST_DOMAIN = 'cluster.local';
const DAY_MS = 86_400_000;

export interface Ask {
  readonly identity?: string;
  readonly token?: string;
  readonly csr?: string;
  readonly seconds?: bigint;
  /** Shown in the handshake. */
  readonly certificate?: { readonly chainPem: string; readonly keyPem: string };
}

const request = makeRequest();

export class ClusterCa {
  readonly authority: CertificateAuthority;
  readonly tokens: KubernetesTokenAuthenticator;
  readonly metrics = new ControlMetrics();
  readonly pods = new ObjectStore();
  readonly #server: Server;
  readonly #credentials: RenewingServerCredentials;
  readonly #watch: Reflector<unknown>;
  #unsubscribe: () => void = () => {};
  port = 0;

  private constructor(client: KubeClient, store: RootStore, policy: RotationPolicy) {
    this.authority = new CertificateAuthority(store, policy);
    this.tokens = new KubernetesTokenAuthenticator(client, {
      audiences: ['istio-ca'],
      nodeAccounts: new Set(['istio-system/ambit-agent']),
      keys: new TokenKeys(client),
    });
    const rules = {
      trustDomain: TRUST_DOMAIN,
      trustedNodeAccounts: new Set(['istio-system/ambit-agent']),
      nodeRuns: (node: string, namespace: string, account: string) => this.pods.nodeRuns(node, namespace, account),
      findPod: (namespace: string, name: string) => podFacts(this.pods.find('Pod', namespace, name)),
    };
    const service = new CertificateService(
      this.authority,
      rules,
      { defaultLifetimeMs: DAY_MS, maxLifetimeMs: 90 * DAY_MS },
      new IssuanceRates({ certificateBurst: 1000, certificatesPerSecond: 100 }),
      this.metrics,
    );
    const certificates = new ClientCertificateAuthenticator({ trustDomain: TRUST_DOMAIN, revocation: () => undefined });
    const authentication = new CallAuthentication(new AuthenticatorChain([certificates, this.tokens]), () =>
      this.metrics.authenticationFailures.inc(),
    );
    this.#credentials = new RenewingServerCredentials(this.authority, ['127.0.0.1']);
    this.#server = new Server({ ...SERVER_CHANNEL_OPTIONS, interceptors: [authentication.interceptor] });
    this.#server.addService(
      { createCertificate: methodDefinition(IstioCertificateService.method.createCertificate) },
      {
        createCertificate: (
          call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
          answer: sendUnaryData<IstioCertificateResponse>,
        ) => {
          const caller = authentication.callerOf(call.metadata);
          void service.answer(caller, call.request, call.getPeer()).then((result) => {
            if (result.kind === 'issued') answer(null, result.response);
            else answer(result.refusal);
          });
        },
      },
    );
    this.#watch = new Reflector<unknown>(
      client,
      RESOURCES.Pod,
      {},
      {
        read: (item: unknown) => item,
        replaced: (items) => {
          for (const item of items) this.#take(item);
        },
        changed: (item) => this.#take(item),
        removed: (item) => {
          const found = kubeObject(item)?.metadata;
          if (found !== undefined) this.pods.apply({ upserted: [], removed: [`Pod/${found.namespace}/${found.name}`] });
        },
        degraded: () => undefined,
      },
    );
  }

  /** Serves until the test ends. `policy` overrides the times of the rotation. */
  static async start(
    context: TestContext,
    client: KubeClient,
    store: RootStore,
    policy: Partial<RotationPolicy> = {},
  ): Promise<ClusterCa> {
    const ca = new ClusterCa(client, store, { ...ROTATION_POLICY, ...policy });
    context.after(() => ca.#close());
    await ca.authority.open();
    ca.#credentials.renew();
    ca.#unsubscribe = ca.authority.store.onChange(() => ca.#credentials.renew());
    ca.#watch.start();
    await ca.#watch.synced;
    ca.port = await new Promise<number>((resolve, reject) => {
      ca.#server.bindAsync('127.0.0.1:0', ca.#credentials, (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
    });
    return ca;
  }

  /** One call on a connection of its own. */
  async ask({
    identity,
    token,
    csr = request.csr,
    seconds = 3600n,
    certificate,
  }: Ask): Promise<IstioCertificateResponse> {
    const target = { address: `127.0.0.1:${this.port}`, rootsPem: this.authority.rootsPem() };
    const client = openTlsClient(certificate === undefined ? target : { ...target, identity: certificate }, {
      'grpc.use_local_subchannel_pool': 1,
    });
    const metadata = new Metadata();
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
    try {
      return await callUnary(
        client,
        IstioCertificateService.method.createCertificate,
        { csr, validityDuration: seconds, metadata: identity === undefined ? {} : { ImpersonatedIdentity: identity } },
        metadata,
        { deadline: Date.now() + 10_000 },
      );
    } finally {
      client.close();
    }
  }

  #take(item: unknown): void {
    const decoded = decode(podDecoder, item);
    if (decoded.ok) this.pods.apply({ upserted: [decoded.value], removed: [] });
  }

  async #close(): Promise<void> {
    this.#unsubscribe();
    this.#server.forceShutdown();
    await this.#watch.close();
    await this.authority.close();
  }
}
