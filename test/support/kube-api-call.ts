/**
 * Requests to an API server without a Kubernetes client: the tests of our own client are checked against what this says.
 */
import { type Agent, type IncomingMessage, request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { createInterface } from 'node:readline';

/** Longest wait for the head of an answer. */
const ANSWER_TIMEOUT_MS = 15_000;

/** An answer of the API server that is not 2xx. */
export class KubeApiRefusal extends Error {
  readonly status: number;
  /** The `reason` of the Status object, for example `Expired`. */
  readonly reason: string;

  constructor(call: string, status: number, body: unknown) {
    super(`${call}: ${status} ${textAt(body, 'message')}`);
    this.status = status;
    this.reason = textAt(body, 'reason');
  }
}

export interface JsonCall {
  readonly method: string;
  readonly body?: unknown;
  readonly agent?: Agent;
  readonly token?: string | undefined;
}

/** The decoded body. Throws KubeApiRefusal, or what the connection failed with. */
export async function callJson(url: string, { method, body, agent, token }: JsonCall): Promise<unknown> {
  const response = await send(url, { method, body, agent, token });
  const decoded = parse(await readAll(response));
  const status = response.statusCode ?? 0;
  if (status < 200 || status > 299) throw new KubeApiRefusal(`${method} ${url}`, status, decoded);
  return decoded;
}

function send(url: string, { method, body, agent, token }: JsonCall): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const headers: Record<string, string> = { accept: 'application/json' };
  if (token !== undefined) headers.authorization = `Bearer ${token}`;
  if (body !== undefined)
    headers['content-type'] = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
  const open = url.startsWith('https:') ? tlsRequest : plainRequest;
  const request = open(url, { method, headers, ...(agent === undefined ? {} : { agent }) }, resolve);
  const limit = setTimeout(() => request.destroy(new Error(`${method} ${url}: no answer`)), ANSWER_TIMEOUT_MS);
  request.once('response', () => clearTimeout(limit)).once('close', () => clearTimeout(limit));
  request.once('error', reject);
  request.end(body === undefined ? undefined : JSON.stringify(body));
  return promise;
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString('utf8');
}

/** A watch that has been answered with 200. */
export class EventStream {
  readonly #response: IncomingMessage;

  constructor(response: IncomingMessage) {
    this.#response = response;
  }

  /** The first event that nobody has read yet; ends the stream. */
  async firstEvent(): Promise<unknown> {
    for await (const line of createInterface(this.#response)) return JSON.parse(line);
    throw new Error('the watch ended without an event');
  }

  /** Resolves when the server ends the stream or the connection breaks. */
  ended(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#response.once('error', () => resolve()).once('close', () => resolve());
    this.#response.resume();
    return promise;
  }
}

/** Opens a watch; the answer's head has arrived when it resolves. */
export async function openEventStream(url: string, agent: Agent): Promise<EventStream> {
  const response = await send(url, { method: 'GET', agent });
  const status = response.statusCode ?? 0;
  if (status !== 200) throw new KubeApiRefusal(`GET ${url}`, status, parse(await readAll(response)));
  return new EventStream(response);
}

/** Health pages are plain text. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The value at a path of keys, or undefined. */
export function valueAt(value: unknown, ...path: readonly (string | number)[]): unknown {
  let current = value;
  for (const key of path) {
    if (typeof current !== 'object' || current === null) return undefined;
    current = Reflect.get(current, key);
  }
  return current;
}

/** The string at a path of keys, or an empty one. */
export function textAt(value: unknown, ...path: readonly (string | number)[]): string {
  const found = valueAt(value, ...path);
  return typeof found === 'string' ? found : '';
}
