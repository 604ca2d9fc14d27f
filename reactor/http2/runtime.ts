/**
 * What the HTTP/2 sessions of one event loop share: the arena bytes are received into, arenas for sending (lent to a
 * session only while it has something to send), arenas for received bytes whose receiver is busy, the byte budget of the
 * worker, and counters. One per loop.
 */
import { Arena } from '../arena.ts';
import type { EventLoop } from '../loop.ts';
import type { Http2Session } from './session.ts';

const RECEIVE_ARENA_BYTES = 256 * 1024;
export const SEND_ARENA_BYTES = 256 * 1024;
export const HOLD_ARENA_BYTES = 16 * 1024;
/** Arenas kept for reuse; more are given back to the system. */
const SPARE_SEND_ARENAS = 4;
const SPARE_HOLD_ARENAS = 64;

export interface Http2Counters {
  sessionsOpened: number;
  sessionsClosed: number;
  streamsOpened: number;
  /** Sessions ended because a limit of the table was exceeded. */
  floods: number;
  /** Sessions ended because the peer broke the protocol. */
  protocolErrors: number;
  pingTimeouts: number;
  /** Streams reset because their receiver did not take what was held for it. */
  budgetResets: number;
}

const runtimes = new WeakMap<EventLoop, Http2Runtime>();

export class Http2Runtime {
  readonly loop: EventLoop;
  readonly receiveArena = new Arena(RECEIVE_ARENA_BYTES);
  readonly sessions = new Set<Http2Session>();
  readonly counters: Http2Counters = {
    sessionsOpened: 0,
    sessionsClosed: 0,
    streamsOpened: 0,
    floods: 0,
    protocolErrors: 0,
    pingTimeouts: 0,
    budgetResets: 0,
  };
  /** Memory in hold arenas over all sessions. */
  heldBytes = 0;
  readonly #sendArenas: Arena[] = [];
  readonly #holdArenas: Arena[] = [];

  constructor(loop: EventLoop) {
    this.loop = loop;
  }

  static of(loop: EventLoop): Http2Runtime {
    let runtime = runtimes.get(loop);
    if (runtime === undefined) {
      runtime = new Http2Runtime(loop);
      runtimes.set(loop, runtime);
    }
    return runtime;
  }

  takeSendArena(): Arena {
    return this.#sendArenas.pop() ?? new Arena(SEND_ARENA_BYTES);
  }

  giveSendArena(arena: Arena): void {
    if (this.#sendArenas.length < SPARE_SEND_ARENAS) this.#sendArenas.push(arena);
    else arena.free();
  }

  takeHoldArena(): Arena {
    this.heldBytes += HOLD_ARENA_BYTES;
    return this.#holdArenas.pop() ?? new Arena(HOLD_ARENA_BYTES);
  }

  giveHoldArena(arena: Arena): void {
    this.heldBytes -= HOLD_ARENA_BYTES;
    if (this.#holdArenas.length < SPARE_HOLD_ARENAS) this.#holdArenas.push(arena);
    else arena.free();
  }
}
