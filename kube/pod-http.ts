/** GET on a port of a pod, through the API server: pages that a pod serves on loopback only. */
import { request } from 'node:http';
import { KubernetesApiError } from './api-error.ts';
import type { KubeClient } from './client.ts';
import { openPodPort, type PodPort } from './port-forward.ts';

const MAX_PAGE_BYTES = 64 * 1024 * 1024;

export interface PodPage {
  readonly status: number;
  readonly text: string;
}

/** The JSON of a page. Rejects with a KubernetesApiError; `status` is that of the page where it answered. */
export async function getPodPage(client: KubeClient, port: PodPort, path: string, timeoutMs: number): Promise<unknown> {
  const { status, text } = await fetchPodPage(client, port, path, timeoutMs);
  if (status !== 200) throw failure(port, path, text.trim().slice(0, 200), status);
  try {
    return JSON.parse(text);
  } catch {
    throw failure(port, path, 'the page is not JSON', status);
  }
}

/** The page whatever its status. Rejects with a KubernetesApiError of status 0 when nobody answers in time. */
export async function fetchPodPage(
  client: KubeClient,
  port: PodPort,
  path: string,
  timeoutMs: number,
): Promise<PodPage> {
  const connection = await openPodPort(client, port);
  const { promise, resolve, reject } = Promise.withResolvers<PodPage>();
  const fail = (reason: string): void => reject(failure(port, path, reason, 0));
  const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
  try {
    const call = request({ path, host: 'localhost', createConnection: () => connection }, (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length > MAX_PAGE_BYTES) fail('the page is too large');
        else chunks.push(chunk);
      });
      response.on('error', (error) => fail(error.message));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    call.on('error', (error) => fail(error.message));
    call.end();
    return await promise;
  } finally {
    clearTimeout(timer);
    connection.destroy();
  }
}

function failure({ namespace, pod }: PodPort, path: string, reason: string, status: number): KubernetesApiError {
  return new KubernetesApiError(`${path} of pod ${namespace}/${pod}: ${reason}`, { status, reason: 'Unreachable' });
}
