/**
 * The hands of the unattended check inside a pod: does what it is told over standard input and reports over standard
 * output, one JSON object per line. Requests carry `id` and `op`; answers repeat the id. Live connections that end report
 * so by themselves (`event: "closed"`), with the time.
 *
 *   http   url, count, body     count requests, one connection each, one after the other
 *   echo   host, port, bytes    one connection: greeting, bytes there and back, orderly end
 *   open   name, host, port     a connection that stays; answers after the greeting
 *   ping   name                 one byte there and back on it
 *   close  name                 ends it in order
 *   load   url, rate            starts steady calls;  stopLoad ends them and reports what failed
 */
import { createInterface } from 'node:readline';
import { isRecord } from '../../core/decoder.ts';
import { echoOnce } from './echo-client.ts';
import { callOnce } from './http-client.ts';
import { LiveConnections } from './live-connections.ts';
import { SteadyLoad } from './steady-load.ts';

const live = new LiveConnections((name, reason) => write({ event: 'closed', name, reason, at: Date.now() }));
let load: SteadyLoad | undefined;

const operations: Readonly<Record<string, (request: Readonly<Record<string, unknown>>) => Promise<object>>> = {
  async http(request) {
    const answers: object[] = [];
    for (let i = 0; i < number(request.count, 1); i++) {
      try {
        const { status, body } = await callOnce(text(request.url), text(request.body));
        answers.push({ status, body });
      } catch (error) {
        answers.push({ status: 0, error: messageOf(error) });
      }
    }
    return { answers };
  },
  async echo(request) {
    return echoOnce({ host: text(request.host), port: number(request.port, 0), bytes: number(request.bytes, 0) });
  },
  async open(request) {
    return { greeting: await live.open(text(request.name), text(request.host), number(request.port, 0)) };
  },
  async ping(request) {
    await live.ping(text(request.name));
    return {};
  },
  async close(request) {
    await live.close(text(request.name));
    return {};
  },
  async load(request) {
    load = new SteadyLoad(text(request.url), number(request.rate, 10));
    return {};
  },
  async stopLoad() {
    return (await load?.stop()) ?? {};
  },
};

createInterface({ input: process.stdin })
  .on('line', (line) => void handle(line))
  .on('close', () => process.exit(0));
write({ event: 'ready' });

async function handle(line: string): Promise<void> {
  const request: unknown = JSON.parse(line);
  if (!isRecord(request)) return;
  const operation = operations[text(request.op)];
  try {
    if (operation === undefined) throw new Error(`unknown operation ${text(request.op)}`);
    write({ id: request.id, ...(await operation(request)) });
  } catch (error) {
    write({ id: request.id, error: messageOf(error) });
  }
}

function write(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function text(value: unknown): string {
  return value === undefined ? '' : String(value);
}

function number(value: unknown, fallback: number): number {
  return typeof value === 'number' ? value : fallback;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? `${'code' in error ? `${String(error.code)}: ` : ''}${error.message}` : String(error);
}
