/**
 * Judges what an eavesdropper between the nodes sees. Every connection whose beginning was captured is followed in both
 * directions; its bytes must be TLS records from the first to the last, else it counts as plaintext. Beside that, every
 * payload is searched for words that only plaintext can show.
 *
 * Follows at most `MAX_CONNECTIONS`; later ones are counted as not followed.
 */
import type { TcpSegment } from './tcp-segment.ts';
import { TlsRecordChecker } from './tls-records.ts';

const MAX_CONNECTIONS = 50_000;
const SAMPLE_BYTES = 48;
/** Held per direction while a repeated packet is awaited; far above a window of this network. */
const MAX_EARLY_SEGMENTS = 4096;

export interface WireConnection {
  readonly client: string;
  readonly server: string;
  readonly serverPort: number;
  /** `silent`: no byte was sent. `tls`: only whole TLS records, of which the last may be cut. */
  readonly verdict: 'tls' | 'plaintext' | 'silent';
  readonly bytes: number;
  /** Bytes were missing from the capture; what came after them was not judged. */
  readonly gaps: boolean;
  /** First bytes of a plaintext direction, printable. */
  readonly sample: string;
}

export interface WireReport {
  readonly connections: readonly WireConnection[];
  /** Connections that stood before the capture or were beyond the limit: seen, not judged. */
  readonly notFollowed: number;
  /** Words found in payloads, with the connection. */
  readonly words: readonly string[];
}

interface Direction {
  /** Sequence number of the next byte, modulo 2^32. */
  next: number;
  readonly checker: TlsRecordChecker;
  bytes: number;
  /** Segments that came before their turn, oldest first: a lost packet is sent again later. */
  early: { readonly sequence: number; readonly payload: Buffer }[];
  sample: string;
}

interface Connection {
  readonly client: string;
  readonly server: string;
  readonly serverPort: number;
  readonly directions: Map<string, Direction>;
}

export class WireInspector {
  readonly #words: readonly Buffer[];
  readonly #connections = new Map<string, Connection>();
  readonly #notFollowed = new Set<string>();
  readonly #found = new Set<string>();

  /** `words`: byte strings that must never be seen in an encrypted connection. */
  constructor(words: readonly string[]) {
    this.#words = words.map((word) => Buffer.from(word));
  }

  add(segment: TcpSegment): void {
    const connection = this.#find(segment);
    for (const word of this.#words) {
      if (segment.payload.includes(word))
        this.#found.add(`${word.toString()} in ${segment.source} > ${segment.destination}`);
    }
    if (connection === undefined) {
      if (segment.payload.length > 0 && this.#notFollowed.size < MAX_CONNECTIONS) {
        this.#notFollowed.add([segment.source, segment.destination].sort().join(' '));
      }
      return;
    }
    this.#follow(connection, segment);
  }

  report(): WireReport {
    return {
      connections: [...this.#connections.values()].map(summarise),
      notFollowed: this.#notFollowed.size,
      words: [...this.#found],
    };
  }

  #find(segment: TcpSegment): Connection | undefined {
    const forward = `${segment.source} ${segment.destination}`;
    const known = this.#connections.get(forward) ?? this.#connections.get(`${segment.destination} ${segment.source}`);
    if (known !== undefined || !segment.syn || segment.ack || this.#connections.size >= MAX_CONNECTIONS) return known;
    const { source: client, destination: server, destinationPort: serverPort } = segment;
    const connection: Connection = { client, server, serverPort, directions: new Map() };
    this.#connections.set(forward, connection);
    return connection;
  }

  #follow(connection: Connection, segment: TcpSegment): void {
    if (segment.syn) {
      const fresh = { checker: new TlsRecordChecker(), bytes: 0, early: [], sample: '' };
      // A repeated SYN changes nothing.
      if (!connection.directions.has(segment.source)) {
        connection.directions.set(segment.source, { ...fresh, next: (segment.sequence + 1) >>> 0 });
      }
      return;
    }
    const direction = connection.directions.get(segment.source);
    if (direction === undefined || segment.payload.length === 0) return;
    if (!take(direction, segment.sequence, segment.payload)) {
      if (direction.early.length >= MAX_EARLY_SEGMENTS) return;
      direction.early.push({ sequence: segment.sequence, payload: Buffer.from(segment.payload) });
      return;
    }
    let waiting = direction.early.length + 1;
    while (direction.early.length > 0 && direction.early.length < waiting) {
      waiting = direction.early.length;
      direction.early = direction.early.filter(({ sequence, payload }) => !take(direction, sequence, payload));
    }
  }
}

/** Judges the part of a segment that is new; false when bytes before it have not come yet. */
function take(direction: Direction, sequence: number, payload: Buffer): boolean {
  // Distance from the next expected byte, as a signed 32-bit number: negative = repeated, positive = missing.
  const distance = (sequence - direction.next) | 0;
  if (distance > 0) return false;
  const fresh = payload.subarray(-distance);
  if (fresh.length === 0) return true;
  if (direction.sample === '') direction.sample = printable(fresh);
  direction.next = (direction.next + fresh.length) >>> 0;
  direction.bytes += fresh.length;
  direction.checker.push(fresh);
  return true;
}

function summarise(connection: Connection): WireConnection {
  const directions = [...connection.directions.values()].filter((direction) => direction.bytes > 0);
  const plain = directions.find((direction) => !direction.checker.isTls);
  return {
    client: connection.client,
    server: connection.server,
    serverPort: connection.serverPort,
    verdict: directions.length === 0 ? 'silent' : plain === undefined ? 'tls' : 'plaintext',
    bytes: directions.reduce((sum, direction) => sum + direction.bytes, 0),
    gaps: [...connection.directions.values()].some((direction) => direction.early.length > 0),
    sample: plain?.sample ?? '',
  };
}

/** The beginning of some bytes as text, everything unprintable as a dot. */
export function printable(bytes: Buffer): string {
  return bytes
    .subarray(0, SAMPLE_BYTES)
    .toString('latin1')
    .replaceAll(/[^\x20-\x7e]/g, '.');
}
