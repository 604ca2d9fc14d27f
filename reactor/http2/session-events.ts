/** What a session tells its owner. */
import type { AmbitError } from '../../core/errors.ts';
import type { ReceivedHeaders } from './headers.ts';
import type { Http2Stream } from './stream.ts';

export interface Http2SessionEvents {
  /** Server: a complete, valid request section has arrived. `endStream`: it has no body. */
  onRequest?(stream: Http2Stream, headers: ReceivedHeaders, endStream: boolean): void;
  /** The peer announced settings; `maxStreams` may have changed. */
  onSettings?(): void;
  /** No new streams from now on: the peer sent GOAWAY, or `drain` was called. */
  onDraining?(): void;
  /** A stream ended: there may be room for another. */
  onStreamEnded?(): void;
  /** Names a failure of the byte channel (`errno` positive), where its owner knows more than the number. */
  describeFailure?(errno: number): AmbitError | undefined;
  /** Last call. No error: closed in order by either side with no stream left. */
  onClosed(error: AmbitError | undefined): void;
}
