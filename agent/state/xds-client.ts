/**
 * The delta-xDS client: one aggregated stream, a wildcard subscription per resource type, a refusal per bad resource.
 *
 *   waiting -> connecting -> streaming -> waiting ...   and from any of them -> stopped
 *
 * What was received stays in force while there is no stream; a new stream names the versions held, so that the server
 * sends only what changed and what went away. Every end of a stream, clean or not, is followed by a jittered back-off
 * that starts over only after a stream that lasted. Bytes on the wire are bounded by the channel, resources by
 * `maxResources`.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { type Client, type ClientDuplexStream, type ServiceError, status } from '@grpc/grpc-js';
import type { NodeSchema } from '../../api/gen/envoy/config/core/v3/base_pb.js';
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
} from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { Backoff } from '../../core/backoff.ts';
import { moreFollows } from '../../core/control-plane-identifier.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { openBidiStream } from '../../core/grpc.ts';
import { logger } from '../../core/log.ts';
import { type ControlEndpoint, openControlClient, readMetadata, readRoots } from './control-channel.ts';
import { MAX_NAME_LENGTH } from './decode-fields.ts';
import { type EncodedResource, RESOURCE_TYPES, type ResourceError, type ResourceUpdate } from './resource.ts';
import type { ResourceFeed } from './resource-feed.ts';

export interface XdsClientOptions {
  readonly endpoint: ControlEndpoint;
  /** Sent with the first request of each type. */
  readonly node: MessageInitShape<typeof NodeSchema>;
  /** First and longest pause between streams. */
  readonly firstBackoffMs?: number;
  readonly maxBackoffMs?: number;
  /** Longest pause while nothing was ever received and nobody answers: the control plane is starting as well. */
  readonly maxFirstWaitMs?: number;
  /** A stream that lasted this long starts the back-off over. */
  readonly stableAfterMs?: number;
  /** Resources of one type that are kept; further ones are refused. */
  readonly maxResources?: number;
}

/** Why streams ended, in the words of `istio_xds_connection_terminations_total`. */
export type XdsTermination = 'ConnectionError' | 'Error' | 'Reconnect' | 'Complete';

/** Totals since the client was made. */
export interface XdsClientStats {
  readonly connected: boolean;
  /** Milliseconds since the epoch: when the present stream began; undefined without one. */
  readonly connectedSinceMs: number | undefined;
  /** When everything had come for the first time. */
  readonly syncedAtMs: number | undefined;
  readonly terminations: Readonly<Record<XdsTermination, number>>;
  /** Responses by type URL. */
  readonly messages: Readonly<Record<string, number>>;
  /** Bytes of resources by type URL. */
  readonly messageBytes: Readonly<Record<string, number>>;
}

type Call = ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

const DEFAULTS = {
  firstBackoffMs: 100,
  maxBackoffMs: 15_000,
  maxFirstWaitMs: 1_000,
  stableAfterMs: 10_000,
  maxResources: 1_000_000,
};
/** Refusals named in one NACK; a server learns nothing from more. */
const MAX_REPORTED_ERRORS = 50;
const NO_CONNECTION: ReadonlySet<number> = new Set([status.UNAVAILABLE, status.DEADLINE_EXCEEDED]);

const log = logger('xds');

export class XdsClient {
  /** Resolves when the first answer of every type, all its parts, has been applied, whether or not some was refused. */
  readonly synced: Promise<void>;
  readonly #options: XdsClientOptions & typeof DEFAULTS;
  readonly #feed: ResourceFeed;
  readonly #backoff: Backoff;
  readonly #unsynced = new Set(RESOURCE_TYPES);
  readonly #terminations: Record<XdsTermination, number> = { ConnectionError: 0, Error: 0, Reconnect: 0, Complete: 0 };
  readonly #messages: Record<string, number> = {};
  readonly #messageBytes: Record<string, number> = {};
  #state: 'idle' | 'waiting' | 'connecting' | 'streaming' | 'stopped' = 'idle';
  #onSynced: () => void = () => {};
  #connectedSinceMs: number | undefined;
  #syncedAtMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #client: Client | undefined;
  #call: Call | undefined;

  /** @param feed where resources go and whose store names the versions held */
  constructor(feed: ResourceFeed, options: XdsClientOptions) {
    this.#feed = feed;
    feed.holdAddresses();
    this.#options = { ...DEFAULTS, ...options };
    this.#backoff = new Backoff({ firstMs: this.#options.firstBackoffMs, maxMs: this.#options.maxBackoffMs });
    this.synced = new Promise((resolve) => {
      this.#onSynced = resolve;
    });
  }

  get stats(): XdsClientStats {
    return {
      connected: this.#state === 'streaming',
      connectedSinceMs: this.#state === 'streaming' ? this.#connectedSinceMs : undefined,
      syncedAtMs: this.#syncedAtMs,
      terminations: { ...this.#terminations },
      messages: { ...this.#messages },
      messageBytes: { ...this.#messageBytes },
    };
  }

  start(): void {
    if (this.#state !== 'idle') throw new AmbitError('USAGE', 'the xDS client was started before');
    void this.#connect();
  }

  /** Ends the stream and gives everything back; what was received stays in force. */
  stop(): void {
    this.#state = 'stopped';
    clearTimeout(this.#timer);
    this.#release();
  }

  async #connect(): Promise<void> {
    this.#state = 'connecting';
    const { endpoint, node } = this.#options;
    try {
      const [roots, metadata] = await Promise.all([readRoots(endpoint), readMetadata(endpoint)]);
      if (this.#stopped) return;
      this.#client = openControlClient(endpoint, roots);
      this.#call = openBidiStream(this.#client, AggregatedDiscoveryService.method.deltaAggregatedResources, metadata);
      this.#listen(this.#call);
      for (const typeUrl of RESOURCE_TYPES)
        this.#send({ node, typeUrl, initialResourceVersions: this.#feed.store.versions(typeUrl) });
    } catch (thrown) {
      if (!this.#stopped) this.#ended('Error', toAmbitError(thrown, 'XDS'));
    }
  }

  #listen(call: Call): void {
    const startedMs = performance.now();
    const over = (reason: XdsTermination, error?: AmbitError) => {
      if (this.#call !== call) return;
      if (this.#state === 'streaming' && performance.now() - startedMs >= this.#options.stableAfterMs)
        this.#backoff.reset();
      this.#ended(reason, error);
    };
    call.on('metadata', () => {
      if (this.#call === call) this.#streams();
    });
    call.on('data', (response: DeltaDiscoveryResponse) => {
      if (this.#call !== call) return;
      this.#streams();
      try {
        this.#handle(response);
      } catch (thrown) {
        over('Error', toAmbitError(thrown, 'XDS'));
      }
    });
    call.on('error', (error: ServiceError) => {
      const reason = !NO_CONNECTION.has(error.code)
        ? 'Error'
        : this.#state === 'streaming'
          ? 'Reconnect'
          : 'ConnectionError';
      over(reason, new AmbitError('XDS', error.details || error.message, { cause: error }));
    });
    call.on('end', () => over('Complete'));
  }

  #streams(): void {
    if (this.#state !== 'streaming') this.#connectedSinceMs = Date.now();
    this.#state = 'streaming';
  }

  #handle(response: DeltaDiscoveryResponse): void {
    const { typeUrl, nonce } = response;
    if (!RESOURCE_TYPES.includes(typeUrl)) {
      this.#send({ typeUrl, responseNonce: nonce, errorDetail: { message: 'this type was not subscribed to' } });
      return;
    }
    const errors: ResourceError[] = [];
    const update = this.#toUpdate(response, errors);
    errors.push(...this.#feed.apply(update).errors);
    this.#count(update);
    if (errors.length > 0) log.warn({ typeUrl, refused: errors.length, first: errors[0] }, 'resources refused');
    this.#send({
      typeUrl,
      responseNonce: nonce,
      ...(errors.length === 0 ? {} : { errorDetail: { message: describe(errors) } }),
    });
    // A large answer comes in parts: with the last one everything is here.
    if (moreFollows(response.controlPlane?.identifier ?? '')) return;
    this.#unsynced.delete(typeUrl);
    if (this.#unsynced.size > 0) return;
    this.#feed.releaseAddresses();
    this.#syncedAtMs ??= Date.now();
    this.#onSynced();
  }

  #toUpdate(response: DeltaDiscoveryResponse, errors: ResourceError[]): ResourceUpdate {
    const { typeUrl } = response;
    const { store } = this.#feed;
    const updated: EncodedResource[] = [];
    let room = this.#options.maxResources - store.count(typeUrl);
    for (const { name, version, resource } of response.resources) {
      const problem =
        name === '' || name.length > MAX_NAME_LENGTH * 2
          ? 'the name is missing or too long'
          : resource?.typeUrl !== typeUrl
            ? 'the content is missing or of another type'
            : !store.has(typeUrl, name) && room-- <= 0
              ? `more than ${this.#options.maxResources} resources of this type`
              : undefined;
      if (problem !== undefined) errors.push({ name: name.slice(0, 128), reason: problem });
      else if (resource !== undefined) updated.push({ name, version, bytes: resource.value });
    }
    return { typeUrl, updated, removed: response.removedResources };
  }

  #count({ typeUrl, updated }: ResourceUpdate): void {
    this.#messages[typeUrl] = (this.#messages[typeUrl] ?? 0) + 1;
    const bytes = updated.reduce((sum, resource) => sum + resource.bytes.length, 0);
    this.#messageBytes[typeUrl] = (this.#messageBytes[typeUrl] ?? 0) + bytes;
  }

  #send(request: MessageInitShape<typeof DeltaDiscoveryRequestSchema>): void {
    this.#call?.write(create(DeltaDiscoveryRequestSchema, request));
  }

  #ended(reason: XdsTermination, error?: AmbitError): void {
    const answered = this.#call !== undefined && reason !== 'ConnectionError';
    this.#release();
    this.#terminations[reason]++;
    const delayMs = Math.round(this.#pauseMs(answered));
    log.warn({ reason, error: error?.message, delayMs }, 'no xDS stream, the last known state stays in use');
    this.#state = 'waiting';
    this.#timer = setTimeout(() => void this.#connect(), delayMs);
  }

  /** An agent that knows nothing yet serves nobody: it must not sleep through the moment its control plane is there. */
  #pauseMs(answered: boolean): number {
    const pauseMs = this.#backoff.nextDelayMs();
    const knowsNothing = this.#unsynced.size === RESOURCE_TYPES.length;
    return knowsNothing && !answered ? Math.min(pauseMs, this.#options.maxFirstWaitMs) : pauseMs;
  }

  #release(): void {
    const call = this.#call;
    this.#call = undefined;
    call?.cancel();
    this.#client?.close();
    this.#client = undefined;
  }

  get #stopped(): boolean {
    return this.#state === 'stopped';
  }
}

function describe(errors: readonly ResourceError[]): string {
  const shown = errors.slice(0, MAX_REPORTED_ERRORS).map(({ name, reason }) => `${name}: ${reason}`);
  if (errors.length > shown.length) shown.push(`${errors.length - shown.length} more`);
  return shown.join('; ');
}
