/**
 * Calls into the engine. While the engine runs it calls back (engine-events.ts), and a failure must wait until it has
 * returned. Failures of the engine itself end the session.
 */
import { toAmbitError } from '../../core/errors.ts';
import type { Arena } from '../arena.ts';
import type { Nghttp2Session } from '../sys/nghttp2.ts';
import { INTERNAL_ERROR, PROTOCOL_ERROR } from './error-codes.ts';
import type { Http2Session } from './session.ts';

export class EngineGate {
  readonly #session: Http2Session;
  readonly #engine: Nghttp2Session;
  /** The engine has not returned yet. */
  inside = false;

  constructor(session: Http2Session, engine: Nghttp2Session) {
    this.#session = session;
    this.#engine = engine;
  }

  /** Received bytes for the engine. False when the session failed. */
  feed(arena: Arena, offset: number, length: number): boolean {
    this.inside = true;
    try {
      this.#engine.receive(arena, offset, length);
    } catch (thrown) {
      this.inside = false;
      const error = toAmbitError(thrown, 'H2_PROTOCOL');
      this.#session.fail(error, error.code === 'H2_PROTOCOL' ? PROTOCOL_ERROR : INTERNAL_ERROR);
      return false;
    }
    this.inside = false;
    return !this.#session.applyFailure();
  }

  /**
   * Frames of the engine, into the arena. Bytes put there, or -1 when the engine failed. The caller applies a failure that was
   * noted meanwhile, after it has kept the bytes.
   */
  serialise(arena: Arena, offset: number, length: number): number {
    this.inside = true;
    let produced = 0;
    try {
      produced = this.#engine.send(arena, offset, length);
    } catch (thrown) {
      this.inside = false;
      this.#session.fail(toAmbitError(thrown, 'H2_PROTOCOL'), INTERNAL_ERROR);
      return -1;
    }
    this.inside = false;
    return produced;
  }
}
