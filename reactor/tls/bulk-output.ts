/**
 * Sending much at once: up to eight records are sealed into a staging area of the thread and leave with one system call.
 * What the socket refuses is held for the connection, and until it is out everything the connection writes (alerts and key
 * updates too) queues behind it, so the order of records is kept. At most one staging area per connection is held.
 */

import { attachSocket, BioPair } from '../sys/bio-pair.ts';
import { ssl } from '../sys/openssl-library.ts';
import { RECORD_BYTES } from './record.ts';

const STAGED_RECORDS = 8;
/** Header, inner content type and tag of a record with an AEAD suite of TLS 1.3. */
const RECORD_OVERHEAD = 22;
const STAGE_BYTES = STAGED_RECORDS * RECORD_BYTES;
/** Room beside the records for alerts and answers to key updates. */
const SIDE_BYTES = 1024;
const STAGE_CAPACITY = STAGED_RECORDS * (RECORD_BYTES + RECORD_OVERHEAD) + SIDE_BYTES;
const HELD_CAPACITY = STAGE_CAPACITY + SIDE_BYTES;
const MAX_SPARE = 4;

let staging: BioPair | undefined;
const spare: BioPair[] = [];

export class BulkOutput {
  readonly #connection: number;
  readonly #fd: number;
  #held: BioPair | undefined = undefined;
  /** Result of the last SSL_write; not positive when the connection has failed. */
  sealResult = 1;

  constructor(connection: number, fd: number) {
    this.#connection = connection;
    this.#fd = fd;
  }

  /** True while bytes wait for the socket; then nothing but `flush` may be called. */
  get holding(): boolean {
    return this.#held !== undefined;
  }

  /** Seals and sends. Bytes taken over (some may be held now), or -errno when the socket failed. */
  write(address: number, length: number): number {
    staging ??= new BioPair(STAGE_CAPACITY);
    let total = 0;
    while (total < length) {
      staging.attach(this.#connection);
      total += this.#seal(address + total, Math.min(length - total, STAGE_BYTES));
      attachSocket(this.#connection);
      const refused = staging.flush(this.#fd);
      if (refused < 0) {
        staging.clear();
        return refused;
      }
      if (refused > 0) {
        this.#hold(staging);
        break;
      }
      if (this.sealResult <= 0) break;
    }
    return total;
  }

  /** Sends held bytes on. Bytes still held, 0 when all are out, or -errno. */
  flush(): number {
    const held = this.#held;
    if (held === undefined) return 0;
    const refused = held.flush(this.#fd);
    if (refused === 0) {
      attachSocket(this.#connection);
      this.#drop(held);
    }
    return refused;
  }

  /** Before SSL_free: gives up what is held. */
  release(): void {
    const held = this.#held;
    if (held === undefined) return;
    attachSocket(this.#connection);
    held.clear();
    this.#drop(held);
  }

  #seal(address: number, length: number): number {
    let sealed = 0;
    while (sealed < length) {
      const count = ssl.SSL_write(this.#connection, address + sealed, Math.min(length - sealed, RECORD_BYTES));
      this.sealResult = count;
      if (count <= 0) break;
      sealed += count;
    }
    return sealed;
  }

  #hold(from: BioPair): void {
    const held = spare.pop() ?? new BioPair(HELD_CAPACITY);
    held.moveFrom(from);
    held.attach(this.#connection);
    this.#held = held;
  }

  #drop(held: BioPair): void {
    this.#held = undefined;
    if (spare.length < MAX_SPARE) spare.push(held);
    else held.free();
  }
}
