/**
 * What the CNI plugin and the node agent say to each other: HTTP over the UNIX socket `<run dir>/pluginevent.sock`,
 * one JSON object each way. `POST /v1/{add,del,check,gc}`, `GET /v1/status`.
 *
 * Both decoders are total: any bytes give a value or a `DECODE` error that names the field. Lengths are bounded.
 */
import { AmbitError } from '../errors.ts';
import { type IpAddress, parseIp } from '../ip.ts';

/** Name of the socket inside the run directory (Istio's, so that operators find it). */
export const PLUGIN_SOCKET_NAME = 'pluginevent.sock';
export const DEFAULT_RUN_DIR = '/var/run/ambit';
/** Largest request or answer in bytes. */
export const MAX_WIRE_BYTES = 1024 * 1024;

/** One interface of one sandbox: CNI's identity of an ADD (specification section "Parameters"). */
export interface Attachment {
  readonly containerId: string;
  readonly ifName: string;
}

export interface PodReference {
  readonly namespace: string;
  readonly name: string;
  /** `K8S_POD_UID`; runtimes older than 2020 do not send it. */
  readonly uid: string | undefined;
}

/** Body of `add` and `check`. */
export interface PodRequest {
  readonly attachment: Attachment;
  readonly pod: PodReference;
  /** Absolute path of the network namespace as the runtime gave it. */
  readonly netns: string;
  /** Addresses of the previous plugins' result; canonical. */
  readonly ips: readonly IpAddress[];
}

/** Body of `del`: the runtime may know neither namespace nor pod any more. */
export interface DelRequest {
  readonly attachment: Attachment;
  readonly pod: PodReference | undefined;
}

/** Body of `gc`: everything else may be removed. */
export interface GcRequest {
  readonly validAttachments: readonly Attachment[];
}

export type AgentAnswer =
  /** The pod's traffic is captured (add), is still captured (check), was released (del, gc). */
  | { readonly kind: 'done'; readonly detail: string }
  /** The pod is none of ours; nothing was touched. */
  | { readonly kind: 'ignored'; readonly detail: string }
  /** `retry`: the same call may succeed later without anybody changing anything. `code` is a code of core/errors.ts. */
  | { readonly kind: 'failed'; readonly code: string; readonly detail: string; readonly retry: boolean };

export type WireCommand = 'add' | 'del' | 'check' | 'gc' | 'status';
export const WIRE_PATHS: Readonly<Record<WireCommand, string>> = {
  add: '/v1/add',
  del: '/v1/del',
  check: '/v1/check',
  gc: '/v1/gc',
  status: '/v1/status',
};

const CONTAINER_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,255}$/;
const INTERFACE_NAME = /^[^\s/:]{1,15}$/;
/** RFC 1123 names as Kubernetes uses them for namespaces (63) and pods (253). */
const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const POD_UID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;
const MAX_ADDRESSES = 32;
const MAX_ATTACHMENTS = 16_384;
const MAX_PATH_BYTES = 4096;

export function decodePodRequest(body: unknown): PodRequest {
  const fields = record(body, 'request');
  return {
    attachment: decodeAttachment(fields.attachment),
    pod: decodePod(fields.pod),
    netns: decodeNetnsPath(fields.netns),
    ips: list(fields.ips, 'ips', MAX_ADDRESSES).map((entry) => {
      const ip = typeof entry === 'string' ? parseIp(entry) : undefined;
      if (ip === undefined) throw decodeError('ips', 'an IP address');
      return ip;
    }),
  };
}

export function decodeDelRequest(body: unknown): DelRequest {
  const fields = record(body, 'request');
  return {
    attachment: decodeAttachment(fields.attachment),
    pod: fields.pod === undefined || fields.pod === null ? undefined : decodePod(fields.pod),
  };
}

export function decodeGcRequest(body: unknown): GcRequest {
  const fields = record(body, 'request');
  return { validAttachments: list(fields.validAttachments, 'validAttachments', MAX_ATTACHMENTS).map(decodeAttachment) };
}

export function decodeAnswer(body: unknown): AgentAnswer {
  const fields = record(body, 'answer');
  const detail = text(fields.detail, 'detail', 65_536);
  switch (fields.kind) {
    case 'done':
    case 'ignored':
      return { kind: fields.kind, detail };
    case 'failed':
      if (typeof fields.retry !== 'boolean') throw decodeError('retry', 'true or false');
      return { kind: 'failed', code: text(fields.code, 'code', 64), detail, retry: fields.retry };
    default:
      throw decodeError('kind', 'done, ignored or failed');
  }
}

/** JSON of at most `MAX_WIRE_BYTES`; throws `DECODE`. */
export function parseJson(bytes: string): unknown {
  if (bytes.length > MAX_WIRE_BYTES) throw new AmbitError('DECODE', `more than ${MAX_WIRE_BYTES} bytes`);
  try {
    return JSON.parse(bytes);
  } catch (cause) {
    throw new AmbitError('DECODE', 'not JSON', { cause });
  }
}

/** A container ID and an interface name as the CNI specification restricts them. */
export function decodeAttachment(value: unknown): Attachment {
  const fields = record(value, 'attachment');
  const containerId = matching(fields.containerId, 'containerId', CONTAINER_ID);
  const ifName = matching(fields.ifName, 'ifName', INTERFACE_NAME);
  if (ifName === '.' || ifName === '..') throw decodeError('ifName', 'the name of an interface');
  return { containerId, ifName };
}

function decodePod(value: unknown): PodReference {
  const fields = record(value, 'pod');
  const uid = fields.uid === undefined || fields.uid === null ? undefined : matching(fields.uid, 'pod.uid', POD_UID);
  const namespace = matching(fields.namespace, 'pod.namespace', OBJECT_NAME);
  return { namespace, name: matching(fields.name, 'pod.name', OBJECT_NAME), uid };
}

/** Absolute and already normal: no `..`, no `//`, no NUL. What it points at is checked after it is opened. */
function decodeNetnsPath(value: unknown): string {
  const path = text(value, 'netns', MAX_PATH_BYTES);
  const segments = path.split('/');
  const odd = segments.slice(1).some((segment) => segment === '' || segment === '.' || segment === '..');
  if (!path.startsWith('/') || odd || path.includes('\0')) throw decodeError('netns', 'an absolute, normal path');
  return path;
}

function record(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw decodeError(field, 'an object');
  return { ...value };
}

function list(value: unknown, field: string, most: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > most) throw decodeError(field, `a list of at most ${most}`);
  return value;
}

function text(value: unknown, field: string, most: number): string {
  if (typeof value !== 'string' || value.length > most) throw decodeError(field, `text of at most ${most} characters`);
  return value;
}

function matching(value: unknown, field: string, pattern: RegExp): string {
  if (typeof value !== 'string' || !pattern.test(value)) throw decodeError(field, `text like ${pattern.source}`);
  return value;
}

function decodeError(field: string, wanted: string): AmbitError {
  return new AmbitError('DECODE', `${field} must be ${wanted}`);
}
