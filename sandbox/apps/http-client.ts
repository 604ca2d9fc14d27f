/** One HTTP request on a connection of its own, so that each call is one connection in the mesh's records. */
import { type IncomingMessage, request } from 'node:http';

const TIMEOUT_MS = 10_000;

export interface CallResult {
  readonly status: number;
  /** Name of the pod that answered, empty when the answer does not say. */
  readonly pod: string;
  readonly body: string;
  /** From the call to the last byte of the answer. */
  readonly durationMs: number;
}

/** Resolves for every complete answer; rejects when the connection fails, is cut, or nothing came for ten seconds. */
export function callOnce(url: string, body = ''): Promise<CallResult> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now();
    const outgoing = request(url, { agent: false, method: body === '' ? 'GET' : 'POST', timeout: TIMEOUT_MS });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      readBody(response).then((text) => {
        const durationMs = performance.now() - startedAt;
        resolve({ status: response.statusCode ?? 0, pod: podOf(text), body: text, durationMs });
      }, reject);
    });
    outgoing.end(body);
  });
}

function readBody(response: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    response.on('error', reject);
    response.on('aborted', () => reject(new Error('the connection was cut')));
  });
}

function podOf(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && 'pod' in value ? String(value.pod) : '';
  } catch {
    return '';
  }
}
