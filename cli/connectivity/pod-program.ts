/**
 * What runs in the pods of `ambit test connectivity`: a server that says who answered whom, and a client that makes
 * connections when told over a port on loopback. The command puts this text into a ConfigMap; any image with a Node.js that
 * strips types can run it. Nothing but Node.js is imported, and nothing is written.
 */
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';

const APP_PORT = 8080;
const CONTROL_PORT = 9090;
const LINE_EVERY_MS = 250;
/** A stream that says nothing for this long is broken. */
const SILENCE_MS = 5_000;
const CALL_TIMEOUT_MS = 3_000;
const MAX_CALLS = 1_000;

interface CallResult {
  readonly ok: boolean;
  readonly ms: number;
  readonly detail: string;
  /** Pod that answered, and the address it saw. */
  readonly server?: string;
  readonly peer?: string;
}

interface StreamState {
  readonly url: string;
  lines: number;
  breaks: number;
  lastBreak: string;
}

interface LoadState {
  requests: number;
  failures: number;
  longestMs: number;
  lastFailure: string;
  readonly streams: StreamState[];
}

const name = process.env.POD_NAME ?? '';
const load: LoadState = { requests: 0, failures: 0, longestMs: 0, lastFailure: '', streams: [] };
const held: (() => void)[] = [];
let loading = false;

function answer(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function serve(request: IncomingMessage, response: ServerResponse): void {
  const peer = (request.socket.remoteAddress ?? '').replace('::ffff:', '');
  if (!request.url?.startsWith('/stream')) {
    answer(response, { server: name, peer });
    return;
  }
  response.writeHead(200, { 'content-type': 'text/plain' });
  const tell = (): void => {
    response.write(`${name} to ${peer}: ambit-connectivity-plaintext\n`);
  };
  tell();
  const timer = setInterval(tell, LINE_EVERY_MS);
  response.on('close', () => clearInterval(timer));
}

/** One request on a connection of its own. Never rejects. */
function call(url: string): Promise<CallResult> {
  const startedMs = performance.now();
  return new Promise((resolve) => {
    const finish = (ok: boolean, detail: string, more: object = {}): void =>
      resolve({ ok, ms: performance.now() - startedMs, detail, ...more });
    const request = get(url, { agent: false, timeout: CALL_TIMEOUT_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('error', (error) => finish(false, error.message));
      response.on('end', () => {
        if (response.statusCode !== 200) finish(false, `status ${response.statusCode}`);
        else finish(true, 'answered', JSON.parse(text));
      });
    });
    request.on('timeout', () => request.destroy(new Error('timed out')));
    request.on('error', (error: NodeJS.ErrnoException) => finish(false, error.code ?? error.message));
  });
}

/** Reads a stream until it ends; the function ends it without a word. */
function follow(url: string, onLine: () => void, onBreak: (reason: string) => void): () => void {
  let ended = false;
  const over = (reason: string): void => {
    if (ended) return;
    ended = true;
    request.destroy();
    onBreak(reason);
  };
  const request = get(url, { agent: false, timeout: SILENCE_MS }, (response) => {
    response.on('data', onLine);
    response.on('end', () => over('the stream ended'));
    response.on('error', (error) => over(error.message));
  });
  request.on('timeout', () => over(`silent for ${SILENCE_MS} ms`));
  request.on('error', (error: NodeJS.ErrnoException) => over(error.code ?? error.message));
  return () => {
    ended = true;
    request.destroy();
  };
}

function keepStream(state: StreamState): void {
  follow(
    `${state.url}/stream`,
    () => {
      state.lines++;
    },
    (reason) => {
      state.breaks++;
      state.lastBreak = `${new Date().toISOString()} ${reason}`;
      setTimeout(() => keepStream(state), LINE_EVERY_MS);
    },
  );
}

async function loop(urls: readonly string[], intervalMs: number): Promise<void> {
  for (let turn = 0; ; turn++) {
    const { ok, ms, detail } = await call(urls[turn % urls.length] ?? '');
    load.requests++;
    load.longestMs = Math.max(load.longestMs, ms);
    if (!ok) {
      load.failures++;
      load.lastFailure = `${new Date().toISOString()} ${detail}`;
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}

async function control(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
  const urls = searchParams.getAll('url');
  if (pathname === '/call') {
    const results: CallResult[] = [];
    const count = Math.min(MAX_CALLS, Number(searchParams.get('count') ?? 1));
    for (let turn = 0; turn < count; turn++) results.push(await call(urls[0] ?? ''));
    answer(response, results);
  } else if (pathname === '/hold') {
    const { promise, resolve } = Promise.withResolvers<string>();
    held.push(follow(`${urls[0]}/stream`, () => resolve('open'), resolve));
    answer(response, { state: await promise });
  } else if (pathname === '/release') {
    for (const end of held.splice(0)) end();
    answer(response, {});
  } else if (pathname === '/load') {
    if (!loading) {
      loading = true;
      load.streams.push(...urls.map((url) => ({ url, lines: 0, breaks: 0, lastBreak: '' })));
      for (const state of load.streams) keepStream(state);
      void loop(urls, Number(searchParams.get('interval') ?? 40));
    }
    answer(response, load);
  } else {
    answer(response, { ...load, name });
  }
}

if (process.env.ROLE === 'server') createServer(serve).listen(APP_PORT);
if (process.env.ROLE === 'client') {
  createServer((request, response) => void control(request, response)).listen(CONTROL_PORT, '127.0.0.1');
}
process.on('SIGTERM', () => process.exit(0));
