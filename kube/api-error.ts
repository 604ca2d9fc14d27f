/**
 * What the API server answers when it refuses: an error with the HTTP status and the machine-readable reason of the
 * `Status` object (meta/v1). The only place that classifies failures of calls to Kubernetes.
 */
import { decode, integer, list, object, optional, string, withDefault } from '../core/decoder.ts';
import { AmbitError } from '../core/errors.ts';

/** `status` 0: there was no answer (connection, TLS, timeout). */
export class KubernetesApiError extends AmbitError {
  readonly status: number;
  /** `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, `Forbidden`, `Expired`, ...; `Unreachable` without an answer. */
  readonly reason: string;
  /** How long the server wants to be left alone, milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** Fields that were refused, for `Invalid`. */
  readonly fields: readonly { readonly field: string; readonly message: string }[];

  constructor(
    detail: string,
    options: {
      readonly status: number;
      readonly reason: string;
      readonly retryAfterMs?: number | undefined;
      readonly fields?: KubernetesApiError['fields'];
      readonly cause?: unknown;
    },
  ) {
    super('KUBERNETES_API', detail, { cause: options.cause });
    this.status = options.status;
    this.reason = options.reason;
    this.retryAfterMs = options.retryAfterMs;
    this.fields = options.fields ?? [];
  }
}

const cause = object({ field: withDefault(string, ''), message: withDefault(string, '') }, 'ignore');

const statusObject = object(
  {
    message: withDefault(string, ''),
    reason: withDefault(string, ''),
    code: optional(integer(0, 999)),
    details: optional(
      object(
        {
          retryAfterSeconds: optional(integer(0, 86_400)),
          causes: optional(list(cause)),
        },
        'ignore',
      ),
    ),
  },
  'ignore',
);

const MAX_MESSAGE = 1000;

/**
 * The error for an answer that is not 2xx. `what` names the call (`GET /api/v1/pods`). A body that is no `Status` object
 * (a proxy's page) adds nothing to the message but its status.
 */
export function apiErrorOf(
  what: string,
  httpStatus: number,
  body: unknown,
  retryAfterMs: number | undefined,
): KubernetesApiError {
  const decoded = decode(statusObject, body);
  const status = decoded.ok ? decoded.value : { message: '', reason: '', code: undefined, details: undefined };
  // An ERROR event of a watch carries the status in the object only.
  const code = httpStatus === 200 ? (status.code ?? 500) : httpStatus;
  const reason = status.reason === '' ? (REASONS.get(code) ?? 'Unknown') : status.reason;
  const message = status.message === '' ? reason : status.message.slice(0, MAX_MESSAGE);
  const seconds = status.details?.retryAfterSeconds;
  return new KubernetesApiError(`${what}: ${code} ${message}`, {
    status: code,
    reason,
    retryAfterMs: retryAfterMs ?? (seconds === undefined ? undefined : seconds * 1000),
    fields: status.details?.causes ?? [],
  });
}

const REASONS = new Map([
  [400, 'BadRequest'],
  [401, 'Unauthorized'],
  [403, 'Forbidden'],
  [404, 'NotFound'],
  [409, 'Conflict'],
  [410, 'Gone'],
  [422, 'Invalid'],
  [429, 'TooManyRequests'],
  [500, 'InternalError'],
  [503, 'ServiceUnavailable'],
  [504, 'Timeout'],
]);

function isStatus(thrown: unknown, status: number, ...reasons: readonly string[]): boolean {
  if (!(thrown instanceof KubernetesApiError) || thrown.status !== status) return false;
  return reasons.length === 0 || reasons.includes(thrown.reason);
}

/** No such object, or no such resource (the CRD is not installed). */
export function isNotFound(thrown: unknown): boolean {
  return isStatus(thrown, 404);
}

/** Somebody else changed the object meanwhile: read it again. Server-side apply: another manager owns a field. */
export function isConflict(thrown: unknown): boolean {
  return isStatus(thrown, 409, 'Conflict');
}

export function isAlreadyExists(thrown: unknown): boolean {
  return isStatus(thrown, 409, 'AlreadyExists');
}

/** RBAC says no. */
export function isForbidden(thrown: unknown): boolean {
  return isStatus(thrown, 403);
}

export function isUnauthorized(thrown: unknown): boolean {
  return isStatus(thrown, 401);
}

/** The resource version (or continue token) is too old: list again. */
export function isGone(thrown: unknown): boolean {
  return isStatus(thrown, 410);
}

/** Refused by the schema or by an admission webhook's verdict on the content. */
export function isInvalid(thrown: unknown): boolean {
  return isStatus(thrown, 422);
}

/** No answer at all: the server is away, or the way to it is. */
export function isUnreachable(thrown: unknown): boolean {
  return isStatus(thrown, 0);
}
