/**
 * Client of `istio.v1.auth.IstioCertificateService`: one request per certificate, each with a key of its own, a deadline
 * and the token as it is on disk at that moment. The channel is kept and made anew when the root file changed; while
 * that file is unreadable the old channel goes on.
 */
import type { JsonObject } from '@bufbuild/protobuf';
import type { Client } from '@grpc/grpc-js';
import { IstioCertificateService } from '../../api/gen/istio/v1/auth/ca_pb.js';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { callUnary } from '../../core/grpc.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { type ControlEndpoint, openControlClient, readMetadata, readRoots } from './control-channel.ts';
import { createCertificateRequest } from './csr.ts';
import { assembleCertificate, type CertificateSource, type IssuedCertificate, splitPem } from './issued-certificate.ts';

export interface CaClientOptions {
  readonly endpoint: ControlEndpoint;
  /** Wanted lifetime of certificates. */
  readonly secretTtlMs: number;
  /** True for an agent that speaks for the pods of its node, false for one that has an identity of its own. */
  readonly impersonate: boolean;
  readonly requestTimeoutMs?: number;
}

const REQUEST_TIMEOUT_MS = 10_000;

export class CaClient implements CertificateSource {
  readonly #options: CaClientOptions;
  #channel: { readonly client: Client; readonly roots: string | undefined } | undefined;
  #closed = false;

  constructor(options: CaClientOptions) {
    this.#options = options;
  }

  async fetch(identity: SpiffeId, signal: AbortSignal): Promise<IssuedCertificate> {
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(new AmbitError('CA', 'the certificate is no longer wanted'));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([this.#request(identity), aborted]);
    } catch (thrown) {
      throw toAmbitError(thrown, 'CA');
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  close(): void {
    this.#closed = true;
    this.#channel?.client.close();
    this.#channel = undefined;
  }

  async #request(identity: SpiffeId): Promise<IssuedCertificate> {
    const { endpoint, secretTtlMs, impersonate, requestTimeoutMs = REQUEST_TIMEOUT_MS } = this.#options;
    const [client, metadata] = await Promise.all([this.#openClient(), readMetadata(endpoint)]);
    const { csrPem, privateKeyPem } = createCertificateRequest(identity);
    const impersonation: JsonObject = impersonate ? { ImpersonatedIdentity: identity } : {};
    const { certChain } = await callUnary(
      client,
      IstioCertificateService.method.createCertificate,
      { csr: csrPem, validityDuration: BigInt(Math.ceil(secretTtlMs / 1000)), metadata: impersonation },
      metadata,
      { deadline: Date.now() + requestTimeoutMs },
    );
    if (certChain.length === 0) throw new AmbitError('CA', 'the chain is empty');
    if (certChain.length === 1) throw new AmbitError('CA', 'no root certificate is present');
    const chain = certChain.slice(0, -1).flatMap((element) => splitPem(element));
    return assembleCertificate(identity, privateKeyPem, chain, splitPem(certChain.at(-1) ?? ''));
  }

  async #openClient(): Promise<Client> {
    const channel = this.#channel;
    const roots = await readRoots(this.#options.endpoint).catch((thrown: unknown) => {
      if (channel === undefined) throw thrown;
      return channel.roots;
    });
    if (this.#closed) throw new AmbitError('CLOSED', 'the CA client was closed');
    if (this.#channel !== undefined && this.#channel.roots === roots) return this.#channel.client;
    const client = openControlClient(this.#options.endpoint, roots);
    this.#channel?.client.close();
    this.#channel = { client, roots };
    return client;
  }
}
