/** The webhook for tests: the real server on loopback with a certificate of a test root, and a client that asks it. */
import { Agent, request as httpsRequest } from 'node:https';
import type { ObjectStore } from '../../control/model/object-store.ts';
import { DEFAULT_ANALYSIS_SETTINGS } from '../../control/validation/view.ts';
import { openJudges } from '../../control/webhook/judge.ts';
import { WebhookServer } from '../../control/webhook/server.ts';
import { getIp } from '../../core/ip.ts';
import { createAuthority } from './pki.ts';

export interface TestWebhook {
  readonly server: WebhookServer;
  readonly url: string;
  /** Root of its certificate. */
  readonly rootPem: string;
  /** Outcomes by their number. */
  readonly outcomes: ReadonlyMap<string, number>;
}

/** @param port 0: any; a number to come back where it was */
export async function openWebhook(store: ObjectStore, port = 0): Promise<TestWebhook> {
  const authority = createAuthority('webhook root');
  const outcomes = new Map<string, number>();
  const server = new WebhookServer({
    listen: { ip: getIp('127.0.0.1'), port },
    issueCertificate: () => {
      const leaf = authority.issue({ uris: [], dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] });
      const { certificateChainPem: certificatePem, privateKeyPem } = leaf;
      return { certificatePem, privateKeyPem, notAfterMs: Date.now() + 3_600_000 };
    },
    ...openJudges(store, DEFAULT_ANALYSIS_SETTINGS, () => true),
    onAnswer: (outcome) => outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1),
  });
  await server.start();
  return { server, url: `https://127.0.0.1:${server.port}`, rootPem: authority.pem, outcomes };
}

export interface WebhookReply {
  readonly status: number;
  readonly text: string;
  readonly tookMs: number;
}

/** A client that keeps one connection, from an address of its own. */
export class WebhookClient implements Disposable {
  readonly #url: string;
  readonly #agent: Agent;

  constructor({ url, rootPem }: TestWebhook, localAddress = '127.0.0.1') {
    this.#url = url;
    this.#agent = new Agent({ ca: rootPem, keepAlive: true, maxSockets: 1, localAddress });
  }

  /** Rejects with what the connection failed with. */
  post(body: string, path = '/validate', headers: Record<string, string> = {}): Promise<WebhookReply> {
    const { promise, resolve, reject } = Promise.withResolvers<WebhookReply>();
    const startedMs = performance.now();
    const call = httpsRequest(`${this.#url}${path}`, {
      method: 'POST',
      agent: this.#agent,
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...headers },
    });
    call.on('error', reject);
    call.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text, tookMs: performance.now() - startedMs }),
      );
    });
    call.end(body);
    return promise;
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** An AdmissionReview about a policy of namespace shop. */
export function policyReview(spec: unknown, name = 'p'): string {
  const object = {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace: 'shop' },
    spec,
  };
  const request = { uid: 'u-1', operation: 'CREATE', namespace: 'shop', name, object };
  return JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request });
}
