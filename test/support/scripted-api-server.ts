/** An API server that says whatever a test wants it to: HTTPS on loopback, one function for all requests. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import { KubeClient } from '../../kube/client.ts';
import type { Credential, CredentialState } from '../../kube/credential.ts';
import { createAuthority, type TestAuthority } from './pki.ts';

export type Answer = (request: IncomingMessage, response: ServerResponse, url: URL) => void;

export class ScriptedApiServer implements AsyncDisposable {
  readonly authority: TestAuthority;
  readonly requests: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  answer: Answer;

  private constructor(authority: TestAuthority, server: Server, answer: Answer) {
    this.authority = authority;
    this.#server = server;
    this.answer = answer;
  }

  static async open(answer: Answer, ipAddresses: readonly string[] = ['127.0.0.1']): Promise<ScriptedApiServer> {
    const authority = createAuthority();
    const leaf = authority.issue({ ipAddresses });
    const server = createServer({ cert: leaf.certificateChainPem, key: leaf.privateKeyPem });
    const scripted = new ScriptedApiServer(authority, server, answer);
    server.on('request', (request, response) => {
      scripted.requests.push(`${request.method} ${request.url}`);
      response.on('error', () => {});
      scripted.answer(request, response, new URL(request.url ?? '/', scripted.url));
    });
    server.on('connection', (socket) => {
      scripted.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => scripted.#sockets.delete(socket));
    });
    server.on('tlsClientError', () => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return scripted;
  }

  get url(): string {
    const address = this.#server.address();
    return `https://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
  }

  /** Open TCP connections. */
  get connections(): number {
    return this.#sockets.size;
  }

  client(state: Partial<CredentialState> = {}): KubeClient {
    return new KubeClient(fixedCredential(this.url, { ca: this.authority.pem, ...state }), 'ambit-test');
  }

  dropConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dropConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

export function fixedCredential(server: string, state: Partial<CredentialState>): Credential {
  const complete = { ca: undefined, cert: undefined, key: undefined, authorization: undefined, ...state };
  return { server, serverName: undefined, current: async () => complete, refused: () => {} };
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

export function sendStatus(response: ServerResponse, code: number, reason: string, message = reason): void {
  sendJson(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message });
}
