/**
 * The control plane for tests: objects from YAML, a whole process-less control plane on loopback, and clients that
 * speak its protocols. Everything opened is closed when the test ends.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Client, type ClientDuplexStream, Metadata, type status } from '@grpc/grpc-js';
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
} from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { ControlPlane } from '../../control/app.ts';
import { readControlConfig } from '../../control/config.ts';
import type { MeshObject } from '../../control/objects/object.ts';
import type { MeshSettings } from '../../control/settings.ts';
import { parseYamlObjects } from '../../control/sources/yaml-objects.ts';
import { mintToken, openTokenKey, type TokenSubject } from '../../control/tokens.ts';
import { openBidiStream, openTlsClient } from '../../core/grpc.ts';

export const SETTINGS: MeshSettings = {
  clusterId: 'Kubernetes',
  network: '',
  trustDomain: 'cluster.local',
  clusterDomain: 'cluster.local',
  rootNamespace: 'istio-system',
};

/** Every object of a YAML text; the text must be free of problems. */
export function objectsOf(yaml: string): MeshObject[] {
  const { objects, problems } = parseYamlObjects(yaml);
  assert.deepEqual(problems, []);
  return [...objects.values()];
}

/** The one object of a YAML text, of the given kind. */
export function objectOf<K extends MeshObject['kind']>(kind: K, yaml: string): Extract<MeshObject, { kind: K }> {
  const [object] = objectsOf(yaml);
  if (object === undefined || !isKind(object, kind)) throw new Error(`not a ${kind}`);
  return object;
}

function isKind<K extends MeshObject['kind']>(object: MeshObject, kind: K): object is Extract<MeshObject, { kind: K }> {
  return object.kind === kind;
}

/** What is wrong with a YAML text: `line: reason`. */
export function problemsOf(yaml: string): string[] {
  return parseYamlObjects(yaml).problems.map(({ line, reason }) => `${line}: ${reason}`);
}

/** A folder that goes away with the test. */
export function temporaryFolder(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-control-'));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export const AGENT = { namespace: 'istio-system', serviceAccount: 'ambit-agent' };

export class ControlFixture {
  readonly configDir: string;
  readonly stateDir: string;
  readonly control: ControlPlane;
  readonly #clients: Client[] = [];

  private constructor(folder: string, args: readonly string[]) {
    this.configDir = join(folder, 'config');
    this.stateDir = join(folder, 'state');
    this.control = new ControlPlane(
      readControlConfig(
        [
          ...['--config-dir', this.configDir, '--state-dir', this.stateDir],
          ...[
            '--listen',
            '127.0.0.1:0',
            '--status-listen',
            '127.0.0.1:0',
            '--termination-grace',
            '500ms',
            '--drain-time',
            '20ms',
          ],
          ...args,
        ],
        {},
      ),
    );
  }

  /** Starts a control plane over `files` (name to YAML). */
  static async start(
    context: TestContext,
    files: Record<string, string>,
    args: readonly string[] = [],
  ): Promise<ControlFixture> {
    const folder = temporaryFolder(context);
    mkdirSync(join(folder, 'config'));
    for (const [name, yaml] of Object.entries(files)) writeFileSync(join(folder, 'config', name), yaml);
    const fixture = new ControlFixture(folder, args);
    await fixture.control.start();
    context.after(async () => {
      for (const client of fixture.#clients) client.close();
      await fixture.control.stop();
    });
    return fixture;
  }

  write(name: string, yaml: string): void {
    writeFileSync(join(this.configDir, name), yaml);
  }

  /** A channel to the control plane that trusts its CA. */
  client(): Client {
    const rootsPem = this.rootsPem();
    const target = { address: `127.0.0.1:${this.control.port}`, rootsPem };
    const client = openTlsClient(target, { 'grpc.use_local_subchannel_pool': 1 });
    this.#clients.push(client);
    return client;
  }

  rootsPem(): string {
    return readFileSync(join(this.stateDir, 'root-cert.pem'), 'utf8');
  }

  /** Metadata of a caller with a valid token; by default the agent of `node-a`. */
  async metadata(subject: TokenSubject = { ...AGENT, node: 'node-a' }, lifetimeMs = 3_600_000): Promise<Metadata> {
    const key = openTokenKey(join(this.stateDir, 'token-key.pem'));
    return bearer(await mintToken(key, subject, lifetimeMs));
  }

  async openStream(subject?: TokenSubject): Promise<TestStream> {
    const { deltaAggregatedResources } = AggregatedDiscoveryService.method;
    return new TestStream(openBidiStream(this.client(), deltaAggregatedResources, await this.metadata(subject)));
  }

  async status(path: string): Promise<{ code: number; text: string }> {
    const response = await fetch(`http://127.0.0.1:${this.control.statusPort}${path}`);
    return { code: response.status, text: await response.text() };
  }
}

export function bearer(token: string): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

type Request = MessageInitShape<typeof DeltaDiscoveryRequestSchema>;

/** A delta xDS stream as a test sees it: send, then take responses one by one. */
export class TestStream {
  readonly #stream: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
  readonly #responses: DeltaDiscoveryResponse[] = [];
  #waiter: (() => void) | undefined;
  /** Code and text of the end. */
  readonly ended: Promise<{ code: status; details: string }>;

  constructor(stream: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>) {
    this.#stream = stream;
    stream.on('error', () => undefined);
    stream.on('data', (response: DeltaDiscoveryResponse) => {
      this.#responses.push(response);
      this.#waiter?.();
    });
    this.ended = new Promise((resolve) =>
      stream.on('status', ({ code, details }: { code: status; details: string }) => resolve({ code, details })),
    );
  }

  send(request: Request): void {
    this.#stream.write(create(DeltaDiscoveryRequestSchema, request));
  }

  /** The next response, within `timeoutMs`. */
  async next(timeoutMs = 3000): Promise<DeltaDiscoveryResponse> {
    if (this.#responses.length === 0) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve, reject) => {
        this.#waiter = resolve;
        timer = setTimeout(() => reject(new Error(`no response within ${timeoutMs} ms`)), timeoutMs);
      });
      clearTimeout(timer);
    }
    const response = this.#responses.shift();
    if (response === undefined) throw new Error('no response');
    return response;
  }

  /** The next response, acknowledged. */
  async nextAcknowledged(timeoutMs?: number): Promise<DeltaDiscoveryResponse> {
    const response = await this.next(timeoutMs);
    this.send({ typeUrl: response.typeUrl, responseNonce: response.nonce });
    return response;
  }

  /** Responses that arrived and were not taken. */
  get pending(): number {
    return this.#responses.length;
  }

  end(): void {
    this.#stream.end();
  }

  cancel(): void {
    this.#stream.cancel();
  }
}
