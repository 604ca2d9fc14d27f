/**
 * A discovery response as bytes, put together from the encoded resources. Clients that are at the same place get the
 * same bytes: the response is made once and shared.
 */
import { formatControlPlaneIdentifier } from '../../core/control-plane-identifier.ts';
import type { Resource } from '../discovery/resource.ts';
import { FieldWriter, fieldSize } from './protobuf.ts';
import type { ServedType } from './served-types.ts';

/** One response, ready to be sent. */
export interface Response {
  readonly bytes: Buffer;
  readonly nonce: string;
  /** Resources and removals in it. */
  readonly resources: number;
  readonly removals: number;
  /** Those that a client may have to wait for: removals, and resources that come after others. */
  readonly deferrable: number;
  /** The last change of the store that it contains. */
  readonly sequence: number;
}

/** Fields of DeltaDiscoveryResponse. */
const [SYSTEM_VERSION, RESOURCES, TYPE_URL, NONCE, REMOVED, CONTROL_PLANE] = [1, 2, 4, 5, 6, 7] as const;
/** Fields of Resource. */
const [VERSION, CONTENT, NAME, ALIASES] = [1, 2, 3, 4] as const;
/** Fields of Any. */
const [ANY_TYPE, ANY_VALUE] = [1, 2] as const;

interface Sized {
  readonly resource: Resource;
  readonly content: Uint8Array;
  /** Of the name in UTF-8, of the Any and of the whole Resource message, bytes. */
  readonly nameLength: number;
  readonly anyLength: number;
  readonly length: number;
}

export class ResponseBuilder {
  readonly #type: ServedType;
  readonly #replica: string;
  readonly #resources: Sized[] = [];
  readonly #removed: string[] = [];
  /** Bytes of resources and removals so far. */
  size = 0;

  constructor(type: ServedType, replica: string) {
    this.#type = type;
    this.#replica = replica;
  }

  get isEmpty(): boolean {
    return this.size === 0;
  }

  get removals(): number {
    return this.#removed.length;
  }

  /** False for a resource that the type does not show. */
  add(resource: Resource): boolean {
    const content = this.#type.content(resource);
    if (content === undefined) return false;
    const nameLength = Buffer.byteLength(resource.name);
    const anyLength = fieldSize(this.#type.url.length) + fieldSize(content.length);
    let length = fieldSize(resource.version.length) + fieldSize(anyLength) + fieldSize(nameLength);
    for (const alias of resource.aliases) length += fieldSize(Buffer.byteLength(alias));
    this.#resources.push({ resource, content, nameLength, anyLength, length });
    this.size += fieldSize(length);
    return true;
  }

  remove(name: string): void {
    this.#removed.push(name);
    this.size += fieldSize(Buffer.byteLength(name));
  }

  /** The response up to change `sequence`. `more`: further ones follow until the client has everything. */
  finish(nonce: string, sequence: number, more: boolean): Response {
    const url = this.#type.url;
    const version = String(sequence);
    const identifier = formatControlPlaneIdentifier(this.#replica, more);
    const identifierLength = Buffer.byteLength(identifier);
    const controlPlaneLength = fieldSize(identifierLength);
    const frame =
      fieldSize(version.length) + fieldSize(url.length) + fieldSize(nonce.length) + fieldSize(controlPlaneLength);
    const writer = new FieldWriter(this.size + frame);
    writer.string(SYSTEM_VERSION, version, version.length);
    writer.string(TYPE_URL, url, url.length);
    writer.string(NONCE, nonce, nonce.length);
    writer.head(CONTROL_PLANE, controlPlaneLength);
    writer.string(1, identifier, identifierLength);
    for (const sized of this.#resources) this.#write(writer, sized);
    for (const name of this.#removed) writer.string(REMOVED, name);
    const [resources, removals] = [this.#resources.length, this.#removed.length];
    const deferrable = removals + this.#resources.filter(({ resource }) => resource.late === true).length;
    return { bytes: writer.buffer, nonce, resources, removals, deferrable, sequence };
  }

  #write(writer: FieldWriter, { resource, content, nameLength, anyLength, length }: Sized): void {
    writer.head(RESOURCES, length);
    writer.string(VERSION, resource.version, resource.version.length);
    writer.head(CONTENT, anyLength);
    writer.string(ANY_TYPE, this.#type.url, this.#type.url.length);
    writer.bytes(ANY_VALUE, content);
    writer.string(NAME, resource.name, nameLength);
    for (const alias of resource.aliases) writer.string(ALIASES, alias);
  }
}
