/**
 * The agent's side of the CNI plugin protocol: HTTP on a UNIX socket in the run directory, for root alone (mode 0600, and
 * the kernel is asked who connected).
 *
 * The socket is bound under a temporary name and renamed into place, so that it appears with its final mode, and a new
 * agent takes the name over from an old one without a gap. Requests and their number are bounded.
 */
import { lstat, mkdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import {
  type AgentAnswer,
  decodeDelRequest,
  decodeGcRequest,
  decodePodRequest,
  MAX_WIRE_BYTES,
  PLUGIN_SOCKET_NAME,
  parseJson,
  WIRE_PATHS,
} from '../../core/enrolment/cni-wire.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { findPeerUid, isOurs, listenPrivately } from '../private-socket.ts';
import type { Enrolment } from './enrolment.ts';

const log = logger('cni');

/** Calls served at once; more than a node starts pods at a time. The runtime repeats what is refused. */
const MAX_CONCURRENT_CALLS = 64;
/** A plugin sends its whole request at once. */
const REQUEST_TIMEOUT_MS = 5_000;
/** Group and others may not write to the folder of the socket, or anybody could put their own there. */
const WRITABLE_BY_OTHERS = 0o022;

export interface CniServerOptions {
  readonly runDirectory: string;
  readonly enrolment: Enrolment;
  /** Undefined when pods can be captured; otherwise what is missing, for STATUS. */
  readonly notReady: () => string | undefined;
}

export class CniServer {
  readonly path: string;
  readonly #server: Server;
  readonly #options: CniServerOptions;
  #calls = 0;

  private constructor(path: string, options: CniServerOptions) {
    this.path = path;
    this.#options = options;
    this.#server = createServer(
      { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.maxConnections = MAX_CONCURRENT_CALLS * 2;
    this.#server.on('connection', (socket) => this.#refuseStrangers(socket));
  }

  /** Resolves when the plugin can connect. Throws `CONFIGURATION` when the run directory is not safe. */
  static async open(options: CniServerOptions): Promise<CniServer> {
    await mkdir(options.runDirectory, { recursive: true, mode: 0o750 });
    await refuseUnsafeDirectory(options.runDirectory);
    const path = join(options.runDirectory, PLUGIN_SOCKET_NAME);
    const server = new CniServer(path, options);
    await listenPrivately(server.#server, path);
    return server;
  }

  /** Stops taking calls, lets those that run finish, and leaves the socket's name to a successor that took it. */
  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeIdleConnections();
    await promise;
  }

  #refuseStrangers(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    if (isOurs(socket)) return;
    log.warn({ uid: findPeerUid(socket) }, 'a process of another user connected to the plugin socket and was refused');
    socket.destroy();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#calls >= MAX_CONCURRENT_CALLS) {
      return send(
        response,
        503,
        failure(new AmbitError('AGENT_UNREACHABLE', `the agent serves ${this.#calls} calls already`)),
      );
    }
    this.#calls++;
    try {
      const answer = await this.#dispatch(request);
      send(response, answer === undefined ? 404 : 200, answer ?? unknownCall(request));
    } catch (thrown) {
      const error = toAmbitError(thrown, 'USAGE');
      log[error.row.level](
        { call: request.url, code: error.code, reason: error.message },
        'a call of the CNI plugin failed',
      );
      send(response, error.code === 'DECODE' ? 400 : 500, failure(error));
    } finally {
      this.#calls--;
    }
  }

  /** Undefined for calls that do not exist. */
  async #dispatch(request: IncomingMessage): Promise<AgentAnswer | undefined> {
    const { enrolment, notReady } = this.#options;
    switch (`${request.method} ${request.url}`) {
      case `GET ${WIRE_PATHS.status}`: {
        const missing = notReady();
        if (missing !== undefined) throw new AmbitError('AGENT_UNREACHABLE', missing);
        return { kind: 'done', detail: 'ready' };
      }
      case `POST ${WIRE_PATHS.add}`:
        return await enrolment.add(decodePodRequest(await readBody(request)));
      case `POST ${WIRE_PATHS.del}`:
        return await enrolment.del(decodeDelRequest(await readBody(request)));
      case `POST ${WIRE_PATHS.check}`:
        return await enrolment.check(decodePodRequest(await readBody(request)));
      case `POST ${WIRE_PATHS.gc}`:
        return await enrolment.gc(decodeGcRequest(await readBody(request)));
      default:
        return undefined;
    }
  }
}

/** A plugin of another version: the agent of its version may come any moment. */
function unknownCall({ url, method }: IncomingMessage): AgentAnswer {
  const what = `the agent does not know the call ${String(url).slice(0, 64)} (${method})`;
  return failure(new AmbitError('AGENT_UNREACHABLE', `${what}: is it of another version than the plugin?`));
}

function failure({ code, message, row }: AmbitError): AgentAnswer {
  // The hint of an agent that cannot be reached is for those who could not reach it.
  const detail = code === 'AGENT_UNREACHABLE' ? message : `${message} (${row.hint})`;
  return { kind: 'failed', code, detail, retry: row.retry };
}

function send(response: ServerResponse, status: number, answer: AgentAnswer): void {
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' }).end(JSON.stringify(answer));
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > MAX_WIRE_BYTES) throw new AmbitError('DECODE', `the request is larger than ${MAX_WIRE_BYTES} bytes`);
    chunks.push(chunk);
  }
  return parseJson(Buffer.concat(chunks).toString('utf8'));
}

/** The folder must belong to us or root, be no link, and not be writable by others. */
async function refuseUnsafeDirectory(directory: string): Promise<void> {
  const status = await lstat(directory);
  const owned = status.uid === 0 || status.uid === process.geteuid?.();
  if (!status.isDirectory() || !owned || (status.mode & WRITABLE_BY_OTHERS) !== 0) {
    throw new AmbitError(
      'CONFIGURATION',
      `the run directory ${directory} must be a folder that only root can write to`,
    );
  }
}
