/**
 * One request of a client, read where it lies. A reconnecting client names everything it holds, a hundred thousand
 * entries in a large mesh: they are walked over once for their number, and later in slices for their content.
 */
import { fromBinary } from '@bufbuild/protobuf';
import { NodeSchema } from '../../api/gen/envoy/config/core/v3/base_pb.js';
import { AmbitError } from '../../core/errors.ts';
import { FieldReader } from './protobuf.ts';

export interface RequestLimits {
  /** Names that one request may subscribe to and unsubscribe from. */
  readonly maxNames: number;
  /** Resources that a reconnecting client may say it holds. */
  readonly maxHeld: number;
  /** Length of one name, bytes. */
  readonly maxNameBytes: number;
}

export const REQUEST_LIMITS: RequestLimits = { maxNames: 50_000, maxHeld: 500_000, maxNameBytes: 1024 };

/** Longest reason of a refusal that is kept, characters. */
const MAX_REASON_LENGTH = 1000;
/** Largest description of a node that is looked at, bytes. */
const MAX_NODE_BYTES = 64 * 1024;
/** Fields of DeltaDiscoveryRequest. */
const [NODE, TYPE_URL, SUBSCRIBE, UNSUBSCRIBE, INITIAL_VERSIONS, NONCE, ERROR_DETAIL] = [1, 2, 3, 4, 5, 6, 7] as const;

export interface HeldResource {
  readonly name: string;
  /** Empty: asked for and not received. */
  readonly version: string;
}

export class DiscoveryRequest {
  readonly #bytes: Buffer;
  readonly #limits: RequestLimits;
  readonly typeUrl: string;
  readonly responseNonce: string;
  /** Why the client refuses the response with this nonce; undefined: it does not. */
  readonly refusal: string | undefined;
  /** The id the client gives itself in its first request; empty in later ones. For people to read, proves nothing. */
  readonly nodeId: string;
  readonly subscribes: number;
  readonly unsubscribes: number;
  readonly holds: number;

  /** @throws AmbitError `DECODE` for bytes that are no request, `XDS` for more than the limits allow */
  constructor(bytes: Buffer, limits: RequestLimits = REQUEST_LIMITS) {
    this.#bytes = bytes;
    this.#limits = limits;
    let [typeUrl, responseNonce, nodeId] = ['', '', ''];
    let refusal: string | undefined;
    const counts = { subscribes: 0, unsubscribes: 0, holds: 0 };
    for (const fields = new FieldReader(bytes); fields.next(); ) {
      const length = fields.end - fields.start;
      if (fields.field === NODE) nodeId = nodeIdOf(bytes.subarray(fields.start, fields.end));
      else if (fields.field === TYPE_URL) typeUrl = short(fields, length, limits);
      else if (fields.field === NONCE) responseNonce = short(fields, length, limits);
      else if (fields.field === ERROR_DETAIL) refusal = messageOf(fields.message());
      else if (fields.field === SUBSCRIBE) count(counts, 'subscribes', limits.maxNames, 'subscribes to');
      else if (fields.field === UNSUBSCRIBE) count(counts, 'unsubscribes', limits.maxNames, 'unsubscribes from');
      else if (fields.field === INITIAL_VERSIONS) count(counts, 'holds', limits.maxHeld, 'says it holds');
    }
    this.typeUrl = typeUrl;
    this.responseNonce = responseNonce;
    this.nodeId = nodeId;
    this.refusal = refusal;
    this.subscribes = counts.subscribes;
    this.unsubscribes = counts.unsubscribes;
    this.holds = counts.holds;
  }

  get size(): number {
    return this.#bytes.length;
  }

  /** Names, `*` among them. @throws AmbitError `XDS` for a name that is too long */
  subscribed(): Iterable<string> {
    return this.#names(SUBSCRIBE, this.subscribes);
  }

  unsubscribed(): Iterable<string> {
    return this.#names(UNSUBSCRIBE, this.unsubscribes);
  }

  /** What the client holds from an earlier stream, one by one: take as many in one turn as there is time for. */
  *held(): Generator<HeldResource, void> {
    if (this.holds === 0) return;
    for (const fields = new FieldReader(this.#bytes); fields.next(); ) {
      if (fields.field !== INITIAL_VERSIONS) continue;
      let [name, version] = ['', ''];
      for (const entry = fields.message(); entry.next(); ) {
        const text = short(entry, entry.end - entry.start, this.#limits);
        if (entry.field === 1) name = text;
        else if (entry.field === 2) version = text;
      }
      yield { name, version };
    }
  }

  *#names(field: number, expected: number): Generator<string, void> {
    if (expected === 0) return;
    for (const fields = new FieldReader(this.#bytes); fields.next(); ) {
      if (fields.field === field) yield short(fields, fields.end - fields.start, this.#limits);
    }
  }
}

function short(fields: FieldReader, length: number, limits: RequestLimits): string {
  if (length > limits.maxNameBytes) {
    throw new AmbitError('XDS', `a name in a request is longer than ${limits.maxNameBytes} bytes`);
  }
  return fields.text();
}

function count<K extends string>(counts: Record<K, number>, key: K, most: number, what: string): void {
  if (++counts[key] > most) throw new AmbitError('XDS', `a request ${what} more than ${most} resources`);
}

/** `google.rpc.Status.message`. */
function messageOf(status: FieldReader): string {
  while (status.next()) if (status.field === 2) return status.text().slice(0, MAX_REASON_LENGTH);
  return '';
}

function nodeIdOf(bytes: Buffer): string {
  if (bytes.length > MAX_NODE_BYTES) {
    throw new AmbitError('XDS', `the description of the node is longer than ${MAX_NODE_BYTES} bytes`);
  }
  try {
    return fromBinary(NodeSchema, bytes).id.slice(0, MAX_REASON_LENGTH);
  } catch (thrown) {
    throw new AmbitError('DECODE', 'the description of the node cannot be read', { cause: thrown });
  }
}
