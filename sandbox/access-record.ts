/** One line of an agent's access log (LOG_FORMAT=json, Istio's field names), decoded. Pure and total. */
import { isRecord } from '../core/decoder.ts';

export interface AccessRecord {
  /** Milliseconds since the epoch. */
  readonly timeMs: number;
  readonly direction: 'inbound' | 'outbound';
  readonly path: 'hbone' | 'same-node' | 'plaintext' | 'unknown';
  /** `ip:port` */
  readonly sourceAddress: string;
  readonly sourceWorkload: string | undefined;
  readonly sourceNamespace: string | undefined;
  readonly sourceIdentity: string | undefined;
  readonly destinationAddress: string;
  readonly hboneAddress: string | undefined;
  readonly destinationService: string | undefined;
  readonly destinationWorkload: string | undefined;
  readonly destinationNamespace: string | undefined;
  readonly destinationIdentity: string | undefined;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly durationMs: number;
  readonly error: string | undefined;
  /** Code of the error table. */
  readonly reason: string | undefined;
  readonly policy: string | undefined;
}

/** Undefined for every line that is not an access-log entry. */
export function parseAccessLine(line: string): AccessRecord | undefined {
  if (!line.startsWith('{')) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!isRecord(value) || value.scope !== 'access') return undefined;
  const text = (name: string): string | undefined => {
    const field = value[name];
    return typeof field === 'string' ? field : undefined;
  };
  const number = (name: string): number => {
    const field = value[name];
    return typeof field === 'number' ? field : 0;
  };
  const direction = text('direction');
  const sourceAddress = text('src.addr');
  if (sourceAddress === undefined || (direction !== 'inbound' && direction !== 'outbound')) return undefined;
  const path = text('path');
  return {
    timeMs: Date.parse(text('time') ?? ''),
    direction,
    path: path === 'hbone' || path === 'same-node' || path === 'plaintext' ? path : 'unknown',
    sourceAddress,
    sourceWorkload: text('src.workload'),
    sourceNamespace: text('src.namespace'),
    sourceIdentity: text('src.identity'),
    destinationAddress: text('dst.addr') ?? '',
    hboneAddress: text('dst.hbone_addr'),
    destinationService: text('dst.service'),
    destinationWorkload: text('dst.workload'),
    destinationNamespace: text('dst.namespace'),
    destinationIdentity: text('dst.identity'),
    bytesSent: number('bytes_sent'),
    bytesReceived: number('bytes_recv'),
    durationMs: Number.parseFloat(text('duration') ?? '0'),
    error: text('error'),
    reason: text('reason'),
    policy: text('policy'),
  };
}

/** The address without its port. */
export function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');
}
