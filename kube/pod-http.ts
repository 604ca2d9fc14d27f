/** GET on a port of a pod, through the API server: pages that a pod serves on loopback only. */
import { request } from 'node:http';
import { KubernetesApiError } from './api-error.ts';
import type { KubeClient } from './client.ts';
import { openPodPort, type PodPort } from './port-forward.ts';

const MAX_PAGE_BYTES = 64 * 1024 * 1024;

/** The JSON of a page. Rejects with a KubernetesApiError; `status` is that of the page where it answered. */
export async function getPodPage(client: KubeClient, port: PodPort, path: string, timeoutMs: number): Promise<unknown> {
  const what = `${path} of pod ${port.namespace}/${port.pod}`;
  const connection = await openPodPort(client, port);
  try {
    return await new Promise<unknown>((resolve, reject) => {
      const fail = (reason: string, status = 0): void =>
        reject(new KubernetesApiError(`${what}: ${reason}`, { status, reason: 'Unreachable' }));
      const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
      const call = request({ path, host: 'localhost', createConnection: () => connection }, (response) => {
        const chunks: Buffer[] = [];
        let length = 0;
        response.on('data', (chunk: Buffer) => {
          length += chunk.length;
          if (length > MAX_PAGE_BYTES) fail('the page is too large');
          else chunks.push(chunk);
        });
        response.on('error', (error) => fail(error.message));
        response.on('end', () => {
          clearTimeout(timer);
          const text = Buffer.concat(chunks).toString('utf8');
          if (response.statusCode !== 200) fail(text.trim().slice(0, 200), response.statusCode ?? 0);
          else resolve(parse(text) ?? fail('the page is not JSON'));
        });
      });
      call.on('error', (error) => {
        clearTimeout(timer);
        fail(error.message);
      });
      call.end();
    });
  } finally {
    connection.destroy();
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
