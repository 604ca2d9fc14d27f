/**
 * Messages of the main thread to a worker. They come in bursts (a push of a large mesh is thousands), and the connections
 * of the worker must not stand still meanwhile: a turn of the loop handles messages for a few milliseconds, the next one
 * goes on after the events of the sockets. The order is kept.
 */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { EventLoop, TurnTask } from '../../reactor/loop.ts';

/** After this time in one turn the rest waits for the next. */
export const INBOX_TURN_MS = 4;

export class Inbox<Message> implements TurnTask {
  readonly #loop: EventLoop;
  readonly #port: MessagePort;
  readonly #handle: (message: Message) => void;
  /** Messages may be left; the next turn goes on. */
  #continues = false;

  constructor(loop: EventLoop, port: MessagePort, handle: (message: Message) => void) {
    this.#loop = loop;
    this.#port = port;
    this.#handle = handle;
  }

  /** There may be messages: handles them, now or in the turns that follow. */
  read(): void {
    if (!this.#continues) this.runAtTurnEnd();
  }

  runAtTurnEnd(): void {
    this.#continues = true;
    try {
      this.#continues = this.#readSome();
    } finally {
      // Also after a message that failed: those behind it wait.
      if (this.#continues) this.#loop.atNextTurn(this);
    }
  }

  /** True when messages may be left. */
  #readSome(): boolean {
    const endMs = performance.now() + INBOX_TURN_MS;
    do {
      const next = receiveMessageOnPort(this.#port);
      if (next === undefined) return false;
      this.#handle(next.message);
    } while (performance.now() < endMs);
    return true;
  }
}
