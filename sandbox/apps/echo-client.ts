/** One raw TCP exchange with the echo server: the greeting, a pattern there and back, and an orderly end on both sides. */
import { createConnection } from 'node:net';

const TIMEOUT_MS = 15_000;

export interface EchoRequest {
  readonly host: string;
  readonly port: number;
  /** How many bytes are sent and must come back. */
  readonly bytes: number;
}

export interface EchoResult {
  /** Address the server saw. */
  readonly client: string;
  readonly sent: number;
  /** Greeting and echo. */
  readonly received: number;
  /** True when every byte came back in order and the server closed after our end. */
  readonly intact: boolean;
}

export function echoOnce(request: EchoRequest): Promise<EchoResult> {
  return new Promise((resolve, reject) => {
    const payload = Buffer.alloc(request.bytes, 'ambit-raw-tcp ');
    const socket = createConnection({ host: request.host, port: request.port });
    const chunks: Buffer[] = [];
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no byte within ${TIMEOUT_MS / 1000} s`)));
    socket.on('error', reject);
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('end', () => {
      const all = Buffer.concat(chunks);
      const newline = all.indexOf(10);
      const intact = all.subarray(newline + 1).equals(payload);
      const client = all.subarray(0, Math.max(0, newline)).toString('latin1').replace('hello ', '');
      resolve({ client, sent: payload.length, received: all.length, intact });
    });
    socket.end(payload);
  });
}
