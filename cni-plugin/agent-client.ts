/**
 * One call to the node agent over its UNIX socket, within a time limit. The agent's answer is returned as it is, also
 * when it is a refusal; not being able to ask at all is `AgentUnreachable`.
 */
import { request } from 'node:http';
import { join } from 'node:path';
import {
  type AgentAnswer,
  decodeAnswer,
  MAX_WIRE_BYTES,
  PLUGIN_SOCKET_NAME,
  parseJson,
  WIRE_PATHS,
  type WireCommand,
} from '../core/enrolment/cni-wire.ts';

const RETRY_INTERVAL_MS = 50;

export class AgentUnreachable extends Error {}

export interface CallOptions {
  readonly runDir: string;
  /** For the whole call, waiting included. */
  readonly timeoutMs: number;
  /** How long to keep trying when nobody listens on the socket: an agent that restarts is back in a moment. */
  readonly waitMs: number;
}

/** Rejects with AgentUnreachable: nobody listens, no answer in time, or an answer that is none. */
export async function callAgent(command: WireCommand, body: unknown, options: CallOptions): Promise<AgentAnswer> {
  const started = performance.now();
  for (;;) {
    const leftMs = options.timeoutMs - (performance.now() - started);
    try {
      return decodeAnswer(parseJson(await exchange(command, body, options.runDir, leftMs)));
    } catch (error) {
      const elapsedMs = performance.now() - started;
      if (!isAbsence(error) || elapsedMs + RETRY_INTERVAL_MS > Math.min(options.waitMs, options.timeoutMs)) {
        throw new AgentUnreachable(describe(error, options.runDir), { cause: error });
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_INTERVAL_MS));
    }
  }
}

function exchange(command: WireCommand, body: unknown, runDir: string, timeoutMs: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const method = body === undefined ? 'GET' : 'POST';
  const socketPath = join(runDir, PLUGIN_SOCKET_NAME);
  const call = request({
    socketPath,
    path: WIRE_PATHS[command],
    method,
    headers: { 'content-type': 'application/json' },
  });
  const timer = setTimeout(
    () => call.destroy(new Error(`no answer within ${Math.round(timeoutMs)} ms`)),
    Math.max(1, timeoutMs),
  );
  call.on('close', () => clearTimeout(timer));
  call.on('error', reject);
  call.on('response', (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      text += chunk;
      if (text.length > MAX_WIRE_BYTES) call.destroy(new Error('the answer is too large'));
    });
    response.on('error', reject);
    response.on('end', () => resolve(text));
  });
  call.end(body === undefined ? undefined : JSON.stringify(body));
  return promise;
}

/** Nobody there, as opposed to somebody who does not answer. */
function isAbsence(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOENT' || code === 'ECONNREFUSED';
}

function describe(error: unknown, runDir: string): string {
  const socket = join(runDir, PLUGIN_SOCKET_NAME);
  if (isAbsence(error)) return `the node agent does not listen on ${socket} (${errorCode(error)})`;
  return `the node agent did not answer on ${socket}: ${error instanceof Error ? error.message : String(error)}`;
}

function errorCode(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
