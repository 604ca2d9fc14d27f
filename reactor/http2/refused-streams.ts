/**
 * Streams of a server that were answered without their request being read to its end. Each is reset a moment later: a reset at
 * once would overtake the answer.
 */
import type { EventLoop, Timer } from '../loop.ts';
import type { Http2Stream } from './stream.ts';

export class RefusedStreams {
  readonly #loop: EventLoop;
  readonly #graceMs: number;
  #streams: Http2Stream[] = [];
  #timer: Timer | undefined;

  constructor(loop: EventLoop, graceMs: number) {
    this.#loop = loop;
    this.#graceMs = graceMs;
  }

  resetLater(stream: Http2Stream): void {
    this.#streams.push(stream);
    this.#timer ??= this.#loop.setTimer(this.#graceMs, () => this.#reset());
  }

  close(): void {
    this.#timer?.cancel();
  }

  #reset(): void {
    const streams = this.#streams;
    this.#streams = [];
    this.#timer = undefined;
    for (const stream of streams) stream.stopDiscarding();
  }
}
