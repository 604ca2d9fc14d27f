/**
 * The HTTPS port that the API server asks: `POST /validate` with an AdmissionReview. Whoever can reach the port can ask, so
 * everything a stranger could use up is bounded, per address and in all; the API server's requests pass beside a flood.
 *
 * A request that cannot be judged is answered with an error status; what the API server makes of that is the failure policy
 * of the configuration. A request that is only too many, or comes when analysis has had its share of the thread, is judged
 * without its surroundings: what is wrong in itself is still refused.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { boundConnections } from '../../core/http-connections.ts';
import { formatSocketAddress, type SocketAddress } from '../../core/ip.ts';
import { logger } from '../../core/log.ts';
import type { Part } from '../part.ts';
import { RateLimit } from '../rate-limit.ts';
import { RenewalTime } from '../renewal-time.ts';
import { BodyBudget } from './body-budget.ts';
import { WEBHOOK_PATH } from './configuration.ts';
import { answerReview, type Judge } from './review.ts';
import { TimeBudget, TimePerAddress } from './time-budget.ts';

/** See docs/LIMITS.md. */
export const WEBHOOK_LIMITS = {
  maxBodyBytes: 4 * 1024 * 1024,
  /** Bodies that are being received or wait for their turn. */
  maxHeldBytes: 64 * 1024 * 1024,
  maxHeldBytesPerAddress: 16 * 1024 * 1024,
  maxConnections: 256,
  maxConnectionsPerAddress: 64,
  handshakeTimeoutMs: 5000,
  headersTimeoutMs: 2000,
  requestTimeoutMs: 5000,
  keepAliveTimeoutMs: 60_000,
  silenceTimeoutMs: 65_000,
  /** Requests of one address. */
  rate: { burst: 1000, perSecond: 500, maxKeys: 4096 },
  /** Share of the thread that the requests of one address may take, over a second; beyond it they wait. */
  addressShare: 0.3,
  /** Longest wait for that; the API server gives up after five seconds. */
  maxWaitMs: 2000,
  /** Share of the thread that looking at the surroundings of objects may take, over a second. */
  analysisShare: 0.25,
} as const;

export interface ServingCertificate {
  /** Leaf and intermediates. */
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number;
}

export interface WebhookOptions {
  readonly listen: SocketAddress;
  /** A new certificate for the names of the Service. Called at the start and at half life. May throw; tried again. */
  readonly issueCertificate: () => ServingCertificate;
  /** With all that is known of the surroundings of an object. */
  readonly judge: Judge;
  /** By the object alone. */
  readonly judgeAlone: Judge;
  readonly onAnswer?: (outcome: 'allowed' | 'warned' | 'refused' | 'failed') => void;
}

interface HttpRefusal {
  readonly status: number;
  readonly text: string;
}

const TOO_MANY: HttpRefusal = { status: 429, text: 'too many requests from this address' };
const WAIT_STEP_MS = 20;
/** How often the own certificate is looked at. */
const RENEWAL_MS = 30_000;
const log = logger('webhook');

export class WebhookServer implements Part {
  readonly name = 'webhook';
  readonly #options: WebhookOptions;
  readonly #rate = new RateLimit(WEBHOOK_LIMITS.rate);
  readonly #times = new TimePerAddress(WEBHOOK_LIMITS.addressShare, WEBHOOK_LIMITS.rate.maxKeys);
  readonly #analysis = new TimeBudget(WEBHOOK_LIMITS.analysisShare);
  readonly #bodies = new BodyBudget(WEBHOOK_LIMITS.maxHeldBytes, WEBHOOK_LIMITS.maxHeldBytesPerAddress);
  #server: Server | undefined;
  readonly #renewal = new RenewalTime();
  #renewals: NodeJS.Timeout | undefined;
  /** In use; 0 until it listens. */
  port = 0;

  constructor(options: WebhookOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { headersTimeoutMs, requestTimeoutMs, keepAliveTimeoutMs, handshakeTimeoutMs } = WEBHOOK_LIMITS;
    const certificate = this.#options.issueCertificate();
    const server = createServer(
      {
        cert: certificate.certificatePem,
        key: certificate.privateKeyPem,
        minVersion: 'TLSv1.2',
        handshakeTimeout: handshakeTimeoutMs,
        headersTimeout: headersTimeoutMs,
        requestTimeout: requestTimeoutMs,
        keepAliveTimeout: keepAliveTimeoutMs,
        connectionsCheckingInterval: 1000,
      },
      (request, response) => this.#serve(request, response),
    );
    server.timeout = WEBHOOK_LIMITS.silenceTimeoutMs;
    boundPerAddress(server, WEBHOOK_LIMITS.maxConnectionsPerAddress);
    boundConnections(server, WEBHOOK_LIMITS.maxConnections);
    // A stranger's broken handshake is no event.
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    const { listen } = this.#options;
    this.port = await new Promise<number>((resolve, reject) => {
      const fail = (error: Error): void =>
        reject(new AmbitError('CONFIGURATION', `webhook on ${formatSocketAddress(listen)}: ${error.message}`));
      server.once('error', fail);
      server.listen(listen.port, listen.ip, () => {
        server.off('error', fail);
        const address = server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
    server.on('error', (error) => log.warn({ error: error.message }, 'the webhook port reported an error'));
    this.#server = server;
    this.#renewal.issued(certificate.notAfterMs);
    this.#renewals = setInterval(() => {
      if (this.#renewal.isDue) this.renew();
    }, RENEWAL_MS).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#renewals);
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  pending(): readonly string[] {
    return this.port === 0 ? [this.name] : [];
  }

  /** Uses a new certificate for every handshake from now on. Call it when the roots changed; it also happens by itself. */
  renew(): void {
    try {
      const { certificatePem, privateKeyPem, notAfterMs } = this.#options.issueCertificate();
      this.#server?.setSecureContext({ cert: certificatePem, key: privateKeyPem, minVersion: 'TLSv1.2' });
      this.#renewal.issued(notAfterMs);
    } catch (thrown) {
      log.error(
        { reason: toAmbitError(thrown, 'CA').message },
        'no certificate for the webhook; the old one stays in use',
      );
    }
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const address = request.socket.remoteAddress ?? '';
    const obstacle = this.#obstacle(request, address);
    if (obstacle !== undefined) {
      this.#refuse(response, obstacle);
      return;
    }
    const body = new Body(request, address, this.#bodies);
    // Also when the client goes away in the middle.
    response.once('close', () => body.release());
    body.whenRead((text) => {
      if (text instanceof AmbitError) this.#refuse(response, { status: 413, text: text.message });
      else this.#answerInTurn(text, address, response, performance.now() + WEBHOOK_LIMITS.maxWaitMs);
    });
  }

  /** Waits for the share of the address: a burst of the API server is smoothed, not refused. */
  #answerInTurn(body: string, address: string, response: ServerResponse, deadlineMs: number): void {
    if (response.destroyed) return;
    if (this.#times.of(address).isOpen) this.#answer(body, address, response);
    else if (performance.now() > deadlineMs) this.#refuse(response, TOO_MANY);
    else setTimeout(() => this.#answerInTurn(body, address, response, deadlineMs), WAIT_STEP_MS).unref();
  }

  #obstacle(request: IncomingMessage, address: string): HttpRefusal | undefined {
    if (request.url?.split('?', 1)[0] !== WEBHOOK_PATH) return { status: 404, text: `only ${WEBHOOK_PATH}` };
    if (request.method !== 'POST') return { status: 405, text: 'only POST' };
    if (!(request.headers['content-type'] ?? '').startsWith('application/json')) {
      return { status: 415, text: 'only application/json' };
    }
    return this.#rate.take(address) ? undefined : TOO_MANY;
  }

  /** What is left of the body is not wanted: the connection goes with it. */
  #refuse(response: ServerResponse, { status, text }: HttpRefusal): void {
    this.#options.onAnswer?.('failed');
    response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' }).end(`${text}\n`);
  }

  #answer(body: string, address: string, response: ServerResponse): void {
    const { judge, judgeAlone, onAnswer } = this.#options;
    const startMs = performance.now();
    // Looking around is bounded for all addresses together, so that it is not charged to the one.
    let aroundMs = 0;
    const judgeInBudget: Judge = (object) => {
      const aroundStartMs = performance.now();
      const findings = this.#analysis.spend(() => judge(object));
      aroundMs += performance.now() - aroundStartMs;
      return findings ?? judgeAlone(object);
    };
    try {
      const answer = answerReview(parseJson(body), judgeInBudget);
      const { allowed, warnings } = answer.response;
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
      onAnswer?.(allowed ? (warnings === undefined ? 'allowed' : 'warned') : 'refused');
    } catch (thrown) {
      const error = toAmbitError(thrown, 'USAGE');
      const isTheirs = error.code === 'DECODE';
      if (!isTheirs) log.error({ error }, 'a request could not be judged');
      this.#refuse(
        response,
        isTheirs ? { status: 400, text: error.message } : { status: 500, text: 'the object could not be judged' },
      );
    } finally {
      this.#times.of(address).charge(performance.now() - startMs - aroundMs);
    }
  }
}

/** The body of a request, counted while it arrives and until it is released. */
class Body {
  readonly #request: IncomingMessage;
  readonly #address: string;
  readonly #budget: BodyBudget;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(request: IncomingMessage, address: string, budget: BodyBudget) {
    this.#request = request;
    this.#address = address;
    this.#budget = budget;
  }

  /** Calls `done` once, with the text or why there is none; never when the client goes away first. */
  whenRead(done: (text: string | AmbitError) => void): void {
    const request = this.#request;
    const giveUp = (reason: string): void => {
      request.removeAllListeners('data').removeAllListeners('end').pause();
      this.release();
      done(new AmbitError('RATE_LIMITED', reason));
    };
    request.on('error', () => undefined);
    request.on('data', (chunk: Buffer) => {
      if (this.#bytes + chunk.length > WEBHOOK_LIMITS.maxBodyBytes) {
        giveUp(`more than ${WEBHOOK_LIMITS.maxBodyBytes} bytes`);
      } else if (this.#budget.take(this.#address, chunk.length)) {
        this.#bytes += chunk.length;
        this.#chunks.push(chunk);
      } else giveUp('too many bytes from this address, or from all, at once');
    });
    request.on('end', () => {
      const text = Buffer.concat(this.#chunks).toString();
      this.#chunks = [];
      done(text);
    });
  }

  release(): void {
    this.#budget.giveBack(this.#address, this.#bytes);
    this.#bytes = 0;
    this.#chunks = [];
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AmbitError('DECODE', 'not JSON', { cause });
  }
}

/** At the limit a new connection of the address is closed: others are not touched. */
function boundPerAddress(server: Server, limit: number): void {
  const open = new Map<string, number>();
  server.on('connection', (socket) => {
    const address = socket.remoteAddress ?? '';
    const count = (open.get(address) ?? 0) + 1;
    if (count > limit) {
      socket.destroy();
      return;
    }
    open.set(address, count);
    socket.once('close', () => {
      const rest = (open.get(address) ?? 1) - 1;
      if (rest === 0) open.delete(address);
      else open.set(address, rest);
    });
  });
}
