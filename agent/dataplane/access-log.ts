/**
 * The access log: one line per ended connection, with Istio's field names and order, as JSON or as tab-separated text.
 * Formatting is pure. Every value that a peer can influence is quoted and escaped by JSON's rules, so one connection is
 * always one line.
 */
import type { AmbitError } from '../../core/errors.ts';
import type { SocketAddress } from '../../core/ip.ts';
import { formatSocketAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
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

export type LogFormat = 'json' | 'plain';
type Level = 'info' | 'warn' | 'error';

/** Collects `name=value` pairs in one of the two formats. */
class Line {
  readonly #json: boolean;
  #text: string;

  constructor(format: LogFormat, level: Level, message: string, now: Date) {
    this.#json = format === 'json';
    this.#text = this.#json
      ? `{"level":"${level}","time":"${now.toISOString()}","scope":"access","message":"${message}"`
      : `${now.toISOString()}\t${level}\taccess\t${message}\t`;
  }

  /** Text that may contain anything. */
  quoted(name: string, value: string | undefined): void {
    if (value !== undefined && value !== '') this.#raw(name, escapeText(value));
  }

  /** An address or a word from a closed set: bare in the plain format. */
  word(name: string, value: string): void {
    this.#raw(name, this.#json ? `"${value}"` : value);
  }

  number(name: string, value: number): void {
    this.#raw(name, String(value));
  }

  #raw(name: string, value: string): void {
    if (this.#json) this.#text += `,"${name}":${value}`;
    else this.#text += this.#text.endsWith('\t') ? `${name}=${value}` : ` ${name}=${value}`;
  }

  end(): string {
    return this.#json ? `${this.#text}}\n` : `${this.#text}\n`;
  }
}

/** Printable ASCII without quote and backslash: nearly every value. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** JSON string of any text; also U+2028/2029 and DEL are escaped so that no viewer breaks the line. */
function escapeText(value: string): string {
  if (PLAIN.test(value)) return `"${value}"`;
  return JSON.stringify(value).replace(/[\u007f-\u009f\u2028\u2029]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

export function formatAccessLine(format: LogFormat, entry: AccessLogEntry, now: Date): string {
  const failed = entry.error !== undefined;
  const line = new Line(format, failed ? 'error' : 'info', 'connection complete', now);
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
  const line = new Line(format, 'warn', 'connection failed', now);
  line.word('src.addr', formatSocketAddress(entry.source));
  line.word('dst.addr', formatSocketAddress(entry.destination));
  line.quoted('direction', entry.direction);
  formatError(line, entry.error);
  return line.end();
}

function formatEnd(line: Line, prefix: 'src' | 'dst', end: AccessLogEnd): void {
  line.word(`${prefix}.addr`, formatSocketAddress(end.address));
  formatNames(line, prefix, end);
}

function formatNames(line: Line, prefix: 'src' | 'dst', end: AccessLogEnd): void {
  line.quoted(`${prefix}.workload`, end.workload);
  line.quoted(`${prefix}.namespace`, end.namespace);
  line.quoted(`${prefix}.identity`, end.identity);
  line.quoted(`${prefix}.cluster`, end.cluster);
}

function formatError(line: Line, error: AmbitError | undefined): void {
  if (error === undefined) return;
  line.quoted('error', error.message.slice(0, 512));
  line.quoted('reason', error.code);
}
