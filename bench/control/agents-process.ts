/**
 * Many agents in one process: each a TLS connection and a delta xDS stream of its own that acknowledges what it gets.
 * What they hold is the same for all, so the list they come back with is encoded once.
 */
import { type ClientHttp2Session, connect } from 'node:http2';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../control/discovery/resource.ts';
import { FieldReader } from '../../control/xds/protobuf.ts';
import { DELTA_PATH, encodeRequest, grpcFrame } from '../../test/support/raw-xds-client.ts';
import type { FromAgents, ToAgents } from './messages.ts';

/** Fields of DeltaDiscoveryResponse. */
const [RESOURCES, TYPE_URL, NONCE, REMOVED, CONTROL_PLANE] = [2, 4, 5, 6, 7] as const;
const EVENT = /event-(\d+)-/;

class Agent {
  readonly #name: string;
  /** Of one agent for all: what is held, name to version. */
  readonly #held: Map<string, string> | undefined;
  readonly #onSynced: () => void;
  readonly #session: ClientHttp2Session;
  readonly #unsynced = new Set([ADDRESS_TYPE, AUTHORIZATION_TYPE]);
  #received: Buffer[] = [];
  #length = 0;
  bytes = 0;
  resources = 0;

  constructor(
    name: string,
    target: { port: number; rootsPem: string },
    requests: readonly Buffer[],
    held: Map<string, string> | undefined,
    onSynced: () => void,
  ) {
    this.#name = name;
    this.#held = held;
    this.#onSynced = onSynced;
    this.#session = connect(`https://127.0.0.1:${target.port}`, {
      ca: target.rootsPem,
      checkServerIdentity: () => undefined,
      settings: { initialWindowSize: 4 * 1024 * 1024 },
    });
    this.#session.on('error', (error) => fail(this.#name, error));
    this.#session.once('connect', () => this.#session.setLocalWindowSize(8 * 1024 * 1024));
    const stream = this.#session.request({
      ':method': 'POST',
      ':path': DELTA_PATH,
      'content-type': 'application/grpc',
      te: 'trailers',
      authorization: `Bearer ${name}`,
    });
    stream.on('error', (error) => fail(this.#name, error));
    stream.on('data', (bytes: Buffer) => {
      this.#received.push(bytes);
      this.#length += bytes.length;
      this.bytes += bytes.length;
      for (let message = this.#take(); message !== undefined; message = this.#take()) {
        stream.write(grpcFrame(this.#answer(message)));
      }
    });
    for (const request of requests) stream.write(grpcFrame(request));
  }

  close(): void {
    this.#session.removeAllListeners('error');
    this.#session.on('error', () => undefined);
    this.#session.destroy();
  }

  #take(): Buffer | undefined {
    const [first] = this.#received;
    if (first === undefined || this.#length < 5) return undefined;
    const head = first.length >= 5 ? first : Buffer.concat(this.#received);
    const end = 5 + head.readUInt32BE(1);
    if (this.#length < end) return undefined;
    const whole = this.#received.length === 1 ? first : Buffer.concat(this.#received);
    this.#received = whole.length > end ? [whole.subarray(end)] : [];
    this.#length -= end;
    return whole.subarray(5, end);
  }

  #answer(message: Buffer): Buffer {
    let [type, nonce, more] = ['', '', false];
    for (const fields = new FieldReader(message); fields.next(); ) {
      if (fields.field === TYPE_URL) type = fields.text();
      else if (fields.field === NONCE) nonce = fields.text();
      else if (fields.field === CONTROL_PLANE) more = fields.text().includes('"More":true');
      else if (fields.field === REMOVED) this.#held?.delete(fields.text());
      else if (fields.field === RESOURCES) this.#resource(fields.message());
    }
    if (!more && this.#unsynced.delete(type) && this.#unsynced.size === 0) this.#onSynced();
    return encodeRequest({ type, nonce });
  }

  #resource(fields: FieldReader): void {
    this.resources++;
    let [name, version] = ['', ''];
    while (fields.next()) {
      if (fields.field === 1) version = fields.text();
      else if (fields.field === 3) name = fields.text();
    }
    this.#held?.set(name, version);
    const event = name.includes('event-') ? EVENT.exec(name)?.[1] : undefined;
    if (event !== undefined) arrived(event, this.#name);
  }
}

const held = new Map<string, string>();
let agents: Agent[] = [];
let target = { port: 0, rootsPem: '' };
/** Event to agent to the time when the last resource of the event was there. */
const arrivals = new Map<string, Map<string, bigint>>();

function arrived(event: string, agent: string): void {
  const times = arrivals.get(event) ?? new Map<string, bigint>();
  times.set(agent, process.hrtime.bigint());
  arrivals.set(event, times);
}

function fail(agent: string, error: Error): void {
  process.stderr.write(`${agent}: ${error.message}\n`);
  process.exitCode = 1;
}

function connectAll(count: number): void {
  const startedMs = performance.now();
  const nodeId = 'ztunnel~10.0.0.1~agent.istio-system~istio-system.svc.cluster.local';
  const requests = [
    encodeRequest({ type: AUTHORIZATION_TYPE, nodeId }),
    encodeRequest({ type: ADDRESS_TYPE, nodeId, held: Object.fromEntries(held) }),
  ];
  let unsynced = count;
  agents = Array.from({ length: count }, (_, index) => {
    const synced = (): void => {
      if (--unsynced > 0) return;
      const bytes = agents.reduce((sum, agent) => sum + agent.bytes, 0);
      const resources = agents.reduce((sum, agent) => sum + agent.resources, 0);
      tell({ kind: 'synced', ms: performance.now() - startedMs, bytes, resources });
    };
    return new Agent(`node-${index}`, target, requests, index === 0 ? held : undefined, synced);
  });
}

function tell(message: FromAgents): void {
  process.send?.(message);
}

process.on('message', (message: ToAgents) => {
  switch (message.kind) {
    case 'connect':
      target = message;
      connectAll(message.agents);
      break;
    case 'reconnect': {
      const count = agents.length;
      for (const agent of agents) agent.close();
      connectAll(count);
      break;
    }
    case 'report': {
      const entries = [...arrivals].map(([event, times]) => [event, [...times.values()].map(String)]);
      const bytes = agents.reduce((sum, agent) => sum + agent.bytes, 0);
      tell({ kind: 'report', bytes, arrivals: Object.fromEntries(entries) });
      break;
    }
    default:
      message satisfies never;
  }
});
process.on('disconnect', () => process.exit());
