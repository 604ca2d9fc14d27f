/** Bounds of the tunnel library beside those of HTTP/2 sessions (`reactor/http2/limits.ts`); a table for docs/LIMITS.md. */
export interface HboneLimits {
  readonly connectTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
  readonly responseTimeoutMs: number;
  readonly idleReleaseMs: number;
  readonly maxStreamsPerSession: number;
  readonly sessionsPerPeer: number;
  readonly maxWaitingPerPeer: number;
  readonly maxAttempts: number;
  readonly maxConcurrentHandshakes: number;
  readonly maxHandshakesPerAddress: number;
  readonly maxSessions: number;
  readonly maxSessionsPerIdentity: number;
  readonly badRequestsBurst: number;
}

export const HBONE_LIMITS: HboneLimits = {
  connectTimeoutMs: 10_000,
  handshakeTimeoutMs: 10_000,
  responseTimeoutMs: 30_000,
  idleReleaseMs: 300_000,
  maxStreamsPerSession: 100,
  sessionsPerPeer: 1024,
  maxWaitingPerPeer: 4096,
  maxAttempts: 3,
  maxConcurrentHandshakes: 256,
  maxHandshakesPerAddress: 128,
  maxSessions: 20_000,
  maxSessionsPerIdentity: 4096,
  badRequestsBurst: 50,
};

export interface HboneLimitRow {
  readonly key: keyof HboneLimits;
  readonly unit: string;
  readonly meaning: string;
  readonly atTheLimit: string;
}

const row = (key: keyof HboneLimits, unit: string, meaning: string, atTheLimit: string): HboneLimitRow => ({
  key,
  unit,
  meaning,
  atTheLimit,
});

export const HBONE_LIMITS_TABLE: readonly HboneLimitRow[] = [
  row(
    'connectTimeoutMs',
    'ms',
    'TCP connect to the port of the peer agent',
    'TUNNEL_TIMEOUT for every connection that waits',
  ),
  row('handshakeTimeoutMs', 'ms', 'TLS handshake, either side', 'TLS_TIMEOUT, the connection is closed'),
  row(
    'responseTimeoutMs',
    'ms',
    'from asking for a tunnel (waiting for a session included) to the answer of the peer',
    'TUNNEL_TIMEOUT; a stream that was opened is reset',
  ),
  row('idleReleaseMs', 'ms', 'a pooled session without streams is kept', 'the session is closed'),
  row(
    'maxStreamsPerSession',
    'streams',
    'tunnels of one pooled session (or what the peer allows, if less)',
    'another session is opened',
  ),
  row('sessionsPerPeer', 'sessions', 'pooled sessions of one target', 'tunnels wait for one to end'),
  row('maxWaitingPerPeer', 'tunnels', 'tunnels that wait for a session of one target', 'STREAM_REFUSED'),
  row(
    'maxAttempts',
    'attempts',
    'a CONNECT the peer did not process is sent on another session',
    'the last refusal is reported',
  ),
  row(
    'maxConcurrentHandshakes',
    'handshakes',
    'TLS handshakes of a worker under way',
    'no tunnel connection is accepted until a quarter has ended; they wait in the queue of the kernel',
  ),
  row(
    'maxHandshakesPerAddress',
    'handshakes',
    'of these, handshakes of one client address: nobody keeps all others out',
    'the connection is closed at once',
  ),
  row('maxSessions', 'sessions', 'server sessions of a worker', 'the connection is closed at once'),
  row(
    'maxSessionsPerIdentity',
    'sessions',
    'server sessions of one peer identity',
    'the session is closed after the handshake',
  ),
  row(
    'badRequestsBurst',
    'requests',
    'requests of one session that are no valid CONNECT',
    'the session ends (H2_FLOOD)',
  ),
];
