/** The clients that run the conformance list of discovery: a raw one, and the agent's. */
import { randomUUID } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import type { ClientHttp2Session } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { MeshState } from '../../agent/state/mesh-state.ts';
import { ResourceFeed } from '../../agent/state/resource-feed.ts';
import { XdsClient } from '../../agent/state/xds-client.ts';
import { xdsNode } from '../../agent/state/xds-node.ts';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../control/discovery/resource.ts';
import { eventually } from './eventually.ts';
import { openRawSession, type RawResponse, RawXdsStream } from './raw-xds-client.ts';
import type { ConformanceClient, ConformanceSubject } from './xds-conformance.ts';
import type { XdsServer } from './xds-server.ts';

const TYPES = [AUTHORIZATION_TYPE, ADDRESS_TYPE];

/** Does what the protocol asks of a client, with bytes of its own making. */
class RawConformanceClient implements ConformanceClient {
  readonly #context: TestContext;
  readonly #token: string | undefined;
  readonly #held = new Map(TYPES.map((type) => [type, new Map<string, string>()]));
  readonly #synced = Promise.withResolvers<void>();
  readonly #refused = Promise.withResolvers<void>();
  readonly #unsynced = new Set(TYPES);
  readonly heard: string[] = [];
  #session: ClientHttp2Session | undefined;
  #received = 0;

  constructor(context: TestContext, token: string | undefined) {
    this.#context = context;
    this.#token = token;
  }

  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  get refused(): Promise<void> {
    return this.#refused.promise;
  }

  held(type: string): ReadonlyMap<string, string> {
    return this.#held.get(type) ?? new Map();
  }

  received(): number {
    return this.#received;
  }

  connect(server: XdsServer): void {
    this.#received = 0;
    this.#session = openRawSession(this.#context, server.port, server.root.pem);
    const stream = new RawXdsStream(this.#session, this.#token);
    for (const type of TYPES) {
      stream.send({ type, nodeId: 'raw~10.0.0.1~a.b~b', held: Object.fromEntries(this.held(type)) });
    }
    void this.#follow(stream);
    void stream.ended().then(({ status }) => status === '16' && this.#refused.resolve());
  }

  async moveTo(server: XdsServer): Promise<void> {
    this.close();
    this.connect(server);
  }

  close(): void {
    this.#session?.destroy();
  }

  async #follow(stream: RawXdsStream): Promise<void> {
    try {
      for (;;) this.#take(stream, await stream.next(30_000));
    } catch {
      // The stream is over, or so is the test.
    }
  }

  #take(stream: RawXdsStream, response: RawResponse): void {
    const held = this.#held.get(response.type);
    if (held === undefined) return;
    const refused: string[] = [];
    for (const { name, version, content } of response.resources) {
      this.#received += content.length;
      if (content[0] === 255) {
        refused.push(`${name}: not a message`);
        continue;
      }
      held.set(name, version);
      this.heard.push(name);
    }
    for (const name of response.removed) {
      held.delete(name);
      this.heard.push(`-${name}`);
    }
    const refusal = refused.length === 0 ? {} : { refusal: refused.join('; ') };
    stream.send({ type: response.type, nonce: response.nonce, ...refusal });
    if (!response.controlPlane.includes('"More":true')) this.#unsynced.delete(response.type);
    if (this.#unsynced.size === 0) this.#synced.resolve();
  }
}

export const RAW_SUBJECT: ConformanceSubject = {
  name: 'a raw client',
  open: async (context, server, token) => {
    const client = new RawConformanceClient(context, token);
    client.connect(server);
    context.after(() => client.close());
    return client;
  },
};

/** The agent's client with its feed, as an agent puts them together. */
class AgentConformanceClient implements ConformanceClient {
  readonly #feed = new ResourceFeed(new MeshState());
  readonly #token: string | undefined;
  readonly #files: string[] = [];
  readonly heard: string[] = [];
  #client: XdsClient;

  constructor(server: XdsServer, token: string | undefined) {
    this.#token = token;
    this.#feed.subscribe(({ updated, removed }) => {
      this.heard.push(...updated.map(({ name }) => name));
      this.heard.push(...removed.map((name) => `-${name}`));
    });
    this.#client = this.#connect(server);
  }

  get synced(): Promise<void> {
    return this.#client.synced;
  }

  get refused(): Promise<void> {
    return eventually('the stream was refused', () => {
      if (this.#client.stats.terminations.Error === 0) throw new Error('not yet');
    });
  }

  held(type: string): ReadonlyMap<string, string> {
    return new Map(Object.entries(this.#feed.store.versions(type)));
  }

  received(): number {
    return Object.values(this.#client.stats.messageBytes).reduce((sum, bytes) => sum + bytes, 0);
  }

  async moveTo(server: XdsServer): Promise<void> {
    this.close();
    this.#client = this.#connect(server);
    await this.#client.synced;
  }

  close(): void {
    this.#client.stop();
    for (const file of this.#files.splice(0)) rmSync(file, { force: true });
  }

  #connect(server: XdsServer): XdsClient {
    const endpoint = {
      address: `127.0.0.1:${server.port}`,
      rootCaFile: this.#write(server.root.pem),
      ...(this.#token === undefined ? {} : { tokenFile: this.#write(this.#token) }),
    };
    const node = xdsNode({ nodeName: 'node-a', podName: 'agent-1', podNamespace: 'istio-system', metadata: {} });
    const client = new XdsClient(this.#feed, { endpoint, node, firstBackoffMs: 20, maxBackoffMs: 100 });
    client.start();
    return client;
  }

  #write(content: string): string {
    const path = join(tmpdir(), `ambit-conformance-${randomUUID()}`);
    writeFileSync(path, content, { mode: 0o600 });
    this.#files.push(path);
    return path;
  }
}

export const AGENT_SUBJECT: ConformanceSubject = {
  name: 'the client of the agent',
  open: async (context, server, token) => {
    const client = new AgentConformanceClient(server, token);
    context.after(() => client.close());
    return client;
  },
};
