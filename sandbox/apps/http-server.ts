/**
 * The HTTP half of the demo application. Every answer is one JSON object that says who answered and which address the
 * request came from, as the server's own socket sees it.
 */
import { createServer } from 'node:http';
import { CallStatistics } from './call-statistics.ts';
import { callOnce } from './http-client.ts';

export interface ServiceSettings {
  readonly pod: string;
  readonly version: string;
  /** Asked once per request; its answer becomes part of ours, its failure a 502. */
  readonly upstream: string | undefined;
}

/** The answer of the demo application. */
interface ServiceAnswer {
  readonly pod: string;
  readonly version: string;
  /** Address the server sees as its client. */
  readonly client: string;
  readonly path: string;
  /** Bytes of the request body. */
  readonly received: number;
  readonly upstream?: string;
}

export function startHttpServer(port: number, settings: ServiceSettings): void {
  const { upstream } = settings;
  const statistics = upstream === undefined ? undefined : new CallStatistics(upstream);
  const server = createServer((request, response) => {
    let received = 0;
    request.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    request.on('end', () => {
      const answer = (status: number, more: object): void => {
        const client = (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '');
        const about: ServiceAnswer = {
          pod: settings.pod,
          version: settings.version,
          client,
          path: request.url ?? '',
          received,
        };
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(`${JSON.stringify({ ...about, ...more })}\n`);
      };
      if (upstream === undefined) return answer(200, {});
      callOnce(upstream).then(
        (result) => {
          statistics?.succeeded(result.pod, result.durationMs);
          answer(200, { upstream: result.pod });
        },
        (error: unknown) => {
          statistics?.failed(error);
          answer(502, { error: error instanceof Error ? error.message : String(error) });
        },
      );
    });
    request.on('error', () => response.destroy());
  });
  server.listen(port);
}
