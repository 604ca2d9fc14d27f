/**
 * The one error class of the project and the closed table of its codes.
 *
 * A row says whose fault a failure is, whether a retry can help, the HTTP status a tunnel peer gets (if any), the
 * `response_flags` value of Istio's metrics, the level it is logged at and what the operator should do next.
 * Callers match on `code`, never on text. `docs/ERRORS.md` is proved equal to this table by a test.
 */

/** Who has to change something so that the failure goes away. */
export type Fault = 'peer' | 'configuration' | 'environment' | 'ambit';

/** `response_flags` label values of Istio's TCP metrics (closed set). */
export type ResponseFlag =
  | '-'
  | 'DENY'
  | 'CONNECT'
  | 'TLS_FAILURE'
  | 'H2_HANDSHAKE_FAILURE'
  | 'NETWORK_POLICY'
  | 'IDENTITY_ERROR'
  | 'CERT_REVOKED';

export interface ErrorRow {
  readonly fault: Fault;
  /** True when the same action may succeed later without anybody changing anything. */
  readonly retry: boolean;
  /** Status a CONNECT request is answered with, absent where no request exists. */
  readonly httpStatus?: 400 | 401 | 503;
  readonly flag: ResponseFlag;
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'fatal';
  /** One sentence for the operator: the next thing to do. */
  readonly hint: string;
}

function row(
  fault: Fault,
  retry: boolean,
  flag: ResponseFlag,
  level: ErrorRow['level'],
  hint: string,
  httpStatus?: ErrorRow['httpStatus'],
): ErrorRow {
  return httpStatus === undefined
    ? { fault, retry, flag, level, hint }
    : { fault, retry, flag, level, hint, httpStatus };
}

export const ERROR_TABLE = {
  // Wrong use of our own interfaces.
  USAGE: row('ambit', false, '-', 'error', 'This is a defect in Ambit: report it with the log line.'),
  CLOSED: row('ambit', false, '-', 'error', 'A resource was used after it was closed: report it with the log line.'),
  // The machine.
  SYSTEM_CALL: row('environment', true, 'CONNECT', 'error', 'See errno and call in the log line.'),
  MISSING_CAPABILITY: row('environment', false, '-', 'fatal', 'Run as root or grant the capability the message names.'),
  MISSING_SYMBOL: row('environment', false, '-', 'fatal', 'Run with the Node.js version that package.json pins.'),
  WORKER: row(
    'ambit',
    true,
    '-',
    'fatal',
    'A data plane thread cannot run; the message and the log line before say why.',
  ),
  MISSING_TOOL: row('environment', false, '-', 'fatal', 'Install the tool the message names.'),
  // The cluster.
  NOT_RUNNING: row('environment', true, '-', 'error', 'Look at the objects that the message names: ambit check.'),
  // Input from operators.
  CONFIGURATION: row('configuration', false, '-', 'error', 'Correct the setting the message names.'),
  INVALID_OBJECT: row(
    'configuration',
    false,
    '-',
    'warn',
    'Correct the object; until then its last good version is used.',
  ),
  DECODE: row('peer', false, 'CONNECT', 'warn', 'The bytes are not what the protocol allows; look at the sender.'),
  // TLS and identity.
  TLS_HANDSHAKE: row('peer', true, 'TLS_FAILURE', 'warn', 'Check certificates and roots on both sides.'),
  TLS_TIMEOUT: row(
    'peer',
    true,
    'TLS_FAILURE',
    'warn',
    'The peer opened a connection and did not finish the handshake.',
  ),
  PEER_IDENTITY: row(
    'peer',
    false,
    'IDENTITY_ERROR',
    'warn',
    'The peer proved another identity than the one expected.',
  ),
  TRUST_DOMAIN: row('peer', false, 'IDENTITY_ERROR', 'warn', 'The peer belongs to another trust domain.'),
  CERT_REVOKED: row('peer', false, 'CERT_REVOKED', 'warn', 'The certificate of the peer is on the revocation list.'),
  NO_CERTIFICATE: row(
    'environment',
    true,
    'IDENTITY_ERROR',
    'warn',
    'Check that the CA is reachable and issues this identity.',
    503,
  ),
  // HTTP/2 and HBONE.
  H2_PROTOCOL: row('peer', false, 'H2_HANDSHAKE_FAILURE', 'warn', 'The peer broke HTTP/2; the connection was closed.'),
  H2_FLOOD: row(
    'peer',
    false,
    'H2_HANDSHAKE_FAILURE',
    'warn',
    'The peer exceeded a limit of docs/LIMITS.md; the connection was closed.',
  ),
  H2_GOAWAY: row('peer', true, 'CONNECT', 'info', 'The peer is going away; new streams open on a new connection.'),
  SESSION_LIMIT: row(
    'peer',
    true,
    'CONNECT',
    'warn',
    'A limit of docs/LIMITS.md on sessions or handshakes was reached; the connection was closed.',
  ),
  STREAM_REFUSED: row(
    'peer',
    true,
    'CONNECT',
    'info',
    'The peer is at its stream limit; retried on another connection.',
  ),
  APPLICATION_RESET: row('peer', true, '-', 'info', 'The application, or its peer, reset its TCP connection.'),
  STREAM_RESET: row('peer', true, 'CONNECT', 'info', 'The peer reset the stream.'),
  BUFFER_BUDGET: row('peer', true, 'CONNECT', 'warn', 'A receiver stopped reading and its buffer budget was used up.'),
  BAD_METHOD: row('peer', false, 'CONNECT', 'warn', 'Only CONNECT is served on this port.', 400),
  BAD_AUTHORITY: row(
    'peer',
    false,
    'CONNECT',
    'warn',
    'The CONNECT authority must be an address of this pod and a port.',
    400,
  ),
  TUNNEL_STATUS: row('peer', true, 'CONNECT', 'warn', 'The remote agent refused the tunnel; see its access log.'),
  TUNNEL_TIMEOUT: row(
    'environment',
    true,
    'NETWORK_POLICY',
    'warn',
    'No answer on port 15008; a NetworkPolicy may block it.',
  ),
  PING_TIMEOUT: row('environment', true, 'CONNECT', 'warn', 'The peer stopped answering; the connection was closed.'),
  // Routing and policy.
  POLICY_DENIED: row(
    'configuration',
    false,
    'DENY',
    'warn',
    'Run `ambit why` with the two ends to see the policy.',
    401,
  ),
  POLICY_UNKNOWN: row(
    'configuration',
    true,
    'DENY',
    'warn',
    'A policy this workload refers to has not arrived yet.',
    401,
  ),
  POLICY_CHANGED: row('configuration', false, 'DENY', 'warn', 'The connection is no longer allowed by policy.'),
  UNKNOWN_WORKLOAD: row(
    'environment',
    true,
    'CONNECT',
    'warn',
    'The control plane has not announced this pod yet.',
    503,
  ),
  UNKNOWN_SERVICE: row('configuration', true, 'CONNECT', 'warn', 'No service or port of that name is known here.', 503),
  UNKNOWN_WAYPOINT: row(
    'configuration',
    true,
    'CONNECT',
    'warn',
    'The waypoint is bound but not running; traffic never goes around it.',
    503,
  ),
  UNKNOWN_GATEWAY: row(
    'configuration',
    true,
    'CONNECT',
    'warn',
    'The endpoint is on another network that has no gateway.',
    503,
  ),
  NO_HEALTHY_ENDPOINT: row('environment', true, 'CONNECT', 'warn', 'The service has no ready endpoint.', 503),
  REGISTRY_ONLY: row(
    'configuration',
    false,
    'DENY',
    'warn',
    'The destination is not in the registry and the outbound policy is REGISTRY_ONLY.',
  ),
  LOOP: row('peer', false, 'CONNECT', 'warn', 'A connection to one of the proxy ports was refused.', 503),
  CONNECT_FAILED: row(
    'environment',
    true,
    'CONNECT',
    'warn',
    'The destination did not accept the connection; see errno.',
    503,
  ),
  CONNECT_TIMEOUT: row(
    'environment',
    true,
    'CONNECT',
    'warn',
    'The destination did not answer within the time limit.',
    503,
  ),
  FAIR_SHARE: row(
    'peer',
    true,
    'CONNECT',
    'warn',
    'The pod holds its fair share of the descriptors of the agent while they are short; close some or raise the limit.',
    503,
  ),
  CLIENT_GONE: row('peer', true, 'CONNECT', 'info', 'The client gave up before the connection was open.'),
  DRAINED: row('environment', true, '-', 'info', 'The agent was told to stop and the grace period ended.'),
  DRAINED_IDLE: row('environment', true, '-', 'info', 'The agent stops: the connection was idle and ended in order.'),
  // Control plane clients.
  XDS: row('environment', true, '-', 'warn', 'Check the control plane; the last known state stays in use.'),
  CA: row('environment', true, 'IDENTITY_ERROR', 'warn', 'Check the CA; a valid certificate stays in use.'),
  AUTHENTICATION: row('peer', false, '-', 'warn', 'The caller has no valid token; see the log of the control plane.'),
  FORBIDDEN: row('peer', false, '-', 'warn', 'The caller may not have this; see the log of the control plane.'),
  BAD_REQUEST: row('peer', false, '-', 'warn', 'The request is not what the service accepts; the message says why.'),
  RATE_LIMITED: row('peer', true, '-', 'warn', 'The caller asks more often than its limit allows.'),
  KUBERNETES_API: row(
    'environment',
    true,
    '-',
    'warn',
    'Check that the API server is reachable and that the service account may do what the message names.',
  ),
  // Enrolment.
  NOT_ELIGIBLE: row('configuration', false, '-', 'info', 'The pod is not part of the mesh; see the reason.'),
  NETNS: row('environment', true, '-', 'error', 'The network namespace of the pod could not be used.'),
  RULES: row('environment', true, '-', 'error', 'nftables refused the rules; the output of nft is in the message.'),
  AGENT_UNREACHABLE: row(
    'environment',
    true,
    '-',
    'error',
    'The node agent does not answer on its socket; the pod waits until it does.',
  ),
  // Sandbox and command line.
  SANDBOX: row(
    'environment',
    true,
    '-',
    'error',
    'Run the command again; if it fails again, the text above says which step.',
  ),
  NO_SANDBOX: row('environment', true, '-', 'error', 'Start one in another terminal: npm run sandbox'),
  CNI: row(
    'environment',
    true,
    '-',
    'warn',
    'The runtime tries again by itself; the text is the answer of the CNI plugin.',
  ),
  ADMIN_UNREACHABLE: row(
    'environment',
    true,
    '-',
    'error',
    'Is the agent running? Name its admin address with --admin host:port, or start a sandbox: npm run sandbox',
  ),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** For codes that crossed a thread or a socket. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_TABLE, text);
}

/** Every failure the project raises on purpose. `detail` names the particulars (never secrets, never raw peer bytes). */
export class AmbitError extends Error {
  readonly code: ErrorCode;
  /** `errno` of the kernel where one caused the failure, positive. */
  readonly errno: number | undefined;

  constructor(code: ErrorCode, detail: string, options: { cause?: unknown; errno?: number } = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AmbitError';
    this.code = code;
    this.errno = options.errno;
  }

  get row(): ErrorRow {
    return ERROR_TABLE[this.code];
  }
}

/** Turns anything thrown into one of ours; foreign errors keep their text as detail and themselves as cause. */
export function toAmbitError(thrown: unknown, fallback: ErrorCode): AmbitError {
  if (thrown instanceof AmbitError) return thrown;
  return new AmbitError(fallback, thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
}

/** Ends a switch over a union: the compiler proves that no case is left. */
export function unreachable(value: never): never {
  throw new AmbitError('USAGE', `unexpected value ${JSON.stringify(value)}`);
}
