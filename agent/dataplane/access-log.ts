/**
 * The access log: one line per ended connection, with Istio's field names and order. Formatting is pure; log-line.ts
 * sees to it that one connection is always one line.
 */
import type { AmbitError } from '../../core/errors.ts';
import type { SocketAddress } from '../../core/ip.ts';
import { formatSocketAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { type LogFormat, LogLine } from './log-line.ts';
import type { ConnectionPath, Direction } from './messages.ts';

/** One end of a connection as the log names it; absent values are left out of the line. */
export interface AccessLogEnd {
  readonly address: SocketAddress;
  readonly workload: string | undefined;
  readonly namespace: string | undefined;
  /** Only when the peer proved it by mutual TLS, or when both ends are pods of this agent. */
  readonly identity: SpiffeId | undefined;
  readonly cluster: string | undefined;
}

export interface AccessLogEntry {
  readonly source: AccessLogEnd;
  readonly destination: AccessLogEnd;
  /** Authority of the CONNECT. */
  readonly hboneAddress: string | undefined;
  /** Host name of the service the client meant. */
  readonly service: string | undefined;
  readonly direction: Direction;
  readonly path: ConnectionPath;
  /** From the reporter's view: outbound sends the request bytes, inbound the response bytes. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly durationMs: number;
  readonly error: AmbitError | undefined;
  /** Policy that decided, `namespace/name`. */
  readonly policy: string | undefined;
}

/** A connection that ended before its ends were known. */
export interface RefusalEntry {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly direction: Direction;
  readonly error: AmbitError;
}

export function formatAccessLine(format: LogFormat, entry: AccessLogEntry, now: Date): string {
  const failed = entry.error !== undefined;
  const line = new LogLine(format, failed ? 'error' : 'info', 'access', 'connection complete', now);
  formatEnd(line, 'src', entry.source);
  line.word('dst.addr', formatSocketAddress(entry.destination.address));
  line.quoted('dst.hbone_addr', entry.hboneAddress);
  line.quoted('dst.service', entry.service);
  formatNames(line, 'dst', entry.destination);
  line.quoted('direction', entry.direction);
  line.quoted('path', entry.path);
  line.number('bytes_sent', entry.bytesSent);
  line.number('bytes_recv', entry.bytesReceived);
  line.quoted('duration', `${Math.round(entry.durationMs)}ms`);
  line.quoted('policy', entry.policy);
  formatError(line, entry.error);
  return line.end();
}

export function formatRefusalLine(format: LogFormat, entry: RefusalEntry, now: Date): string {
  const line = new LogLine(format, 'warn', 'access', 'connection failed', now);
  line.word('src.addr', formatSocketAddress(entry.source));
  line.word('dst.addr', formatSocketAddress(entry.destination));
  line.quoted('direction', entry.direction);
  formatError(line, entry.error);
  return line.end();
}

function formatEnd(line: LogLine, prefix: 'src' | 'dst', end: AccessLogEnd): void {
  line.word(`${prefix}.addr`, formatSocketAddress(end.address));
  formatNames(line, prefix, end);
}

function formatNames(line: LogLine, prefix: 'src' | 'dst', end: AccessLogEnd): void {
  line.quoted(`${prefix}.workload`, end.workload);
  line.quoted(`${prefix}.namespace`, end.namespace);
  line.quoted(`${prefix}.identity`, end.identity);
  line.quoted(`${prefix}.cluster`, end.cluster);
}

function formatError(line: LogLine, error: AmbitError | undefined): void {
  if (error === undefined) return;
  line.quoted('error', error.message.slice(0, 512));
  line.quoted('reason', error.code);
}
