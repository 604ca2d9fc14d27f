/**
 * Every bound of an HTTP/2 session in one table: what is announced to the peer, what is enforced beside the engine, and
 * what happens at the bound. `docs/LIMITS.md` is proved equal to `HTTP2_LIMITS_TABLE` by a test. The numbers for tunnels follow
 * ztunnel where peers notice them (RFC 9113 section 6.5.2 settings) and the attack table of the project where they do not.
 */

/** Tokens: `burst` at once, `perSecond` afterwards. */
export interface RateLimit {
  readonly burst: number;
  readonly perSecond: number;
}

export interface Http2Limits {
  readonly maxConcurrentStreams: number;
  readonly initialWindowBytes: number;
  readonly connectionWindowBytes: number;
  readonly maxFrameBytes: number;
  readonly maxHeaderListBytes: number;
  readonly maxRequestHeaderBytes: number;
  readonly maxHeaderFields: number;
  readonly maxContinuationFrames: number;
  readonly maxSettingsEntries: number;
  readonly maxOutstandingAcks: number;
  readonly peerMaxStreamsUntilTold: number;
  readonly earlyResets: RateLimit;
  readonly resets: RateLimit;
  readonly invalidFrames: RateLimit;
  readonly pings: RateLimit;
  readonly settings: RateLimit;
  readonly priorities: RateLimit;
  readonly unknownFrames: RateLimit;
  readonly maxConsecutiveEmptyData: number;
  readonly sessionHeldBytes: number;
  readonly workerHeldBytes: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly drainNoticeMs: number;
  readonly finalFlushMs: number;
  readonly refusedGraceMs: number;
  readonly refusedBodyBytes: number;
}

/** Limits of HBONE sessions, both roles. */
export const HBONE_HTTP2_LIMITS: Http2Limits = {
  maxConcurrentStreams: 200,
  initialWindowBytes: 4 << 20,
  connectionWindowBytes: 16 << 20,
  maxFrameBytes: 1 << 20,
  maxHeaderListBytes: 64 << 10,
  maxRequestHeaderBytes: 16 << 10,
  maxHeaderFields: 32,
  maxContinuationFrames: 8,
  maxSettingsEntries: 32,
  maxOutstandingAcks: 100,
  peerMaxStreamsUntilTold: 100,
  earlyResets: { burst: 200, perSecond: 50 },
  resets: { burst: 2000, perSecond: 500 },
  invalidFrames: { burst: 50, perSecond: 5 },
  pings: { burst: 20, perSecond: 10 },
  settings: { burst: 10, perSecond: 1 },
  priorities: { burst: 100, perSecond: 10 },
  unknownFrames: { burst: 100, perSecond: 10 },
  maxConsecutiveEmptyData: 100,
  sessionHeldBytes: 32 << 20,
  workerHeldBytes: 128 << 20,
  keepaliveIntervalMs: 10_000,
  keepaliveTimeoutMs: 20_000,
  drainNoticeMs: 1_000,
  finalFlushMs: 2_000,
  refusedGraceMs: 1_000,
  refusedBodyBytes: 64 << 10,
};

export interface LimitRow {
  readonly key: keyof Http2Limits;
  readonly unit: string;
  readonly meaning: string;
  readonly atTheLimit: string;
}

const row = (key: keyof Http2Limits, unit: string, meaning: string, atTheLimit: string): LimitRow => ({
  key,
  unit,
  meaning,
  atTheLimit,
});

export const HTTP2_LIMITS_TABLE: readonly LimitRow[] = [
  row(
    'maxConcurrentStreams',
    'streams',
    'streams a peer may have open on one session (announced)',
    'REFUSED_STREAM, or the session ends with PROTOCOL_ERROR after the peer has acknowledged the setting',
  ),
  row(
    'initialWindowBytes',
    'bytes',
    'receive window of a stream (announced)',
    'the session ends with FLOW_CONTROL_ERROR',
  ),
  row(
    'connectionWindowBytes',
    'bytes',
    'receive window of a session (announced)',
    'the session ends with FLOW_CONTROL_ERROR',
  ),
  row('maxFrameBytes', 'bytes', 'payload of one received frame (announced)', 'the session ends with FRAME_SIZE_ERROR'),
  row(
    'maxHeaderListBytes',
    'bytes',
    'header list as announced by a server (clients announce maxRequestHeaderBytes); beyond it the peer is attacking',
    'the session ends with ENHANCE_YOUR_CALM',
  ),
  row('maxRequestHeaderBytes', 'bytes', 'header list of one message', 'the stream is reset'),
  row('maxHeaderFields', 'fields', 'fields of one message', 'the stream is reset'),
  row('maxContinuationFrames', 'frames', 'CONTINUATION frames of one header block', 'the session ends'),
  row('maxSettingsEntries', 'entries', 'entries of one SETTINGS frame', 'the session ends'),
  row('maxOutstandingAcks', 'frames', 'acknowledgements of SETTINGS and PING waiting to be sent', 'the session ends'),
  row(
    'peerMaxStreamsUntilTold',
    'streams',
    'streams we open before the peer has announced its limit',
    'further tunnels wait or use another session',
  ),
  row(
    'earlyResets',
    'resets',
    'resets, in either direction, of requests that were not answered yet',
    'the session ends with ENHANCE_YOUR_CALM',
  ),
  row('resets', 'resets', 'resets by the peer of established streams', 'the session ends with ENHANCE_YOUR_CALM'),
  row('invalidFrames', 'frames', 'frames that provoke a reset of ours', 'the session ends with ENHANCE_YOUR_CALM'),
  row('pings', 'frames', 'PING frames of the peer', 'the session ends with ENHANCE_YOUR_CALM'),
  row('settings', 'frames', 'SETTINGS frames of the peer', 'the session ends with ENHANCE_YOUR_CALM'),
  row(
    'priorities',
    'frames',
    'PRIORITY frames of the peer (ignored otherwise)',
    'the session ends with ENHANCE_YOUR_CALM',
  ),
  row(
    'unknownFrames',
    'frames',
    'frames of unknown types (ignored otherwise)',
    'the session ends with ENHANCE_YOUR_CALM',
  ),
  row(
    'maxConsecutiveEmptyData',
    'frames',
    'DATA frames without payload and without END_STREAM in a row',
    'the session ends with ENHANCE_YOUR_CALM',
  ),
  row(
    'sessionHeldBytes',
    'bytes',
    'received bytes of one session that its receivers have not taken',
    'the stream that holds most is reset (BUFFER_BUDGET)',
  ),
  row(
    'workerHeldBytes',
    'bytes',
    'the same over all sessions of a worker',
    'the stream that holds most is reset (BUFFER_BUDGET)',
  ),
  row('keepaliveIntervalMs', 'ms', 'silence after which a PING is sent', 'a PING is sent'),
  row('keepaliveTimeoutMs', 'ms', 'time for its answer', 'the session ends (PING_TIMEOUT)'),
  row('drainNoticeMs', 'ms', 'longest time between the two GOAWAY frames of a drain', 'the final GOAWAY is sent'),
  row('finalFlushMs', 'ms', 'time a closing session may take to send its last frames', 'the connection is reset'),
  row('refusedGraceMs', 'ms', 'time a refused request may take to end its own body', 'the stream is reset (NO_ERROR)'),
  row(
    'refusedBodyBytes',
    'bytes',
    'body of a refused request that is read and thrown away',
    'the stream is reset (NO_ERROR)',
  ),
];

/** What the engine itself is configured with. */
export type EngineLimits = Pick<
  Http2Limits,
  | 'maxContinuationFrames'
  | 'maxSettingsEntries'
  | 'maxOutstandingAcks'
  | 'peerMaxStreamsUntilTold'
  | 'resets'
  | 'invalidFrames'
>;
