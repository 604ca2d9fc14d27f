/** HTTP/2 error codes (RFC 9113 section 7) and how resets and our own errors translate into each other. */
import { AmbitError } from '../../core/errors.ts';

export const NO_ERROR = 0;
export const PROTOCOL_ERROR = 1;
export const INTERNAL_ERROR = 2;
export const FLOW_CONTROL_ERROR = 3;
export const STREAM_CLOSED = 5;
export const REFUSED_STREAM = 7;
export const CANCEL = 8;
export const CONNECT_ERROR = 10;
export const ENHANCE_YOUR_CALM = 11;

const NAMES = [
  'NO_ERROR',
  'PROTOCOL_ERROR',
  'INTERNAL_ERROR',
  'FLOW_CONTROL_ERROR',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE_ERROR',
  'REFUSED_STREAM',
  'CANCEL',
  'COMPRESSION_ERROR',
  'CONNECT_ERROR',
  'ENHANCE_YOUR_CALM',
  'INADEQUATE_SECURITY',
  'HTTP_1_1_REQUIRED',
];

export function errorCodeName(code: number): string {
  return NAMES[code] ?? `error code ${code}`;
}

/** A reset by the peer: undefined for a clean end (NO_ERROR, CANCEL), STREAM_REFUSED for a stream that was not processed. */
export function errorOfReset(code: number): AmbitError | undefined {
  if (code === NO_ERROR || code === CANCEL) return undefined;
  if (code === REFUSED_STREAM) return new AmbitError('STREAM_REFUSED', 'the peer did not process the stream');
  return new AmbitError('STREAM_RESET', `the peer reset the stream: ${errorCodeName(code)}`);
}

/**
 * The code a stream is reset with. Never CANCEL: peers take that for a clean end of file, and what ends with an error must
 * not look complete (RFC 9113 section 8.5 names CONNECT_ERROR for failures of the TCP side).
 */
export function resetCodeOf(error: AmbitError): number {
  switch (error.code) {
    case 'BUFFER_BUDGET':
    case 'H2_FLOOD':
      return ENHANCE_YOUR_CALM;
    case 'H2_PROTOCOL':
      return PROTOCOL_ERROR;
    case 'STREAM_REFUSED':
      return REFUSED_STREAM;
    case 'USAGE':
    case 'CLOSED':
      return INTERNAL_ERROR;
    default:
      return CONNECT_ERROR;
  }
}
