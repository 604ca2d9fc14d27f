/**
 * Flow control of what we receive (RFC 9113 section 5.2): what the peer may still send on the connection, and the window updates
 * waiting to be written. Credit for the connection is given as bytes arrive, in steps of a quarter of the window.
 */
import type { Arena } from '../arena.ts';
import { FRAME_HEADER_BYTES, writeWindowUpdate } from './frames.ts';

const UPDATE_BYTES = FRAME_HEADER_BYTES + 4;

export class ReceiveLedger {
  readonly #stepBytes: number;
  #window: number;
  #uncredited = 0;
  /** Stream id and increment, alternating; id 0 is the connection. */
  #updates: number[] = [];

  constructor(connectionWindowBytes: number) {
    this.#window = connectionWindowBytes;
    this.#stepBytes = connectionWindowBytes >> 2;
  }

  get hasUpdates(): boolean {
    return this.#updates.length > 0;
  }

  /** DATA of this size (padding included) has begun to arrive. False = the peer exceeds the connection's window. */
  charge(length: number): boolean {
    this.#window -= length;
    if (this.#window < 0) return false;
    this.#uncredited += length;
    if (this.#uncredited >= this.#stepBytes) {
      this.#window += this.#uncredited;
      this.#updates.push(0, this.#uncredited);
      this.#uncredited = 0;
    }
    return true;
  }

  /** Credit for a stream, to be written with the next flush. */
  update(streamId: number, increment: number): void {
    this.#updates.push(streamId, increment);
  }

  /** Writes the waiting updates that fit; returns the new position. */
  write(arena: Arena, start: number, end: number): number {
    const updates = this.#updates;
    let position = start;
    let index = 0;
    for (; index < updates.length && end - position >= UPDATE_BYTES; index += 2) {
      writeWindowUpdate(arena.bytes, position, updates[index] ?? 0, updates[index + 1] ?? 0);
      position += UPDATE_BYTES;
    }
    if (index === updates.length) updates.length = 0;
    else updates.splice(0, index);
    return position;
  }
}
