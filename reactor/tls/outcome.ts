/**
 * What a failed SSL_do_handshake, SSL_read or SSL_write means. Call at once after the failure; the error queue of the thread is
 * empty afterwards. The words for it are in `outcomeReason` until the next call.
 */
import { EAGAIN, ECONNRESET, EPROTO, errno, errnoName } from '../sys/errno.ts';
import { drainErrors, verifyReason } from '../sys/openssl-errors.ts';
import {
  SSL_ERROR_SSL,
  SSL_ERROR_WANT_READ,
  SSL_ERROR_WANT_WRITE,
  SSL_ERROR_ZERO_RETURN,
  ssl,
} from '../sys/openssl-library.ts';

/** The call has to wait until the socket can be read or written. */
export const WANTS_READ = 1;
export const WANTS_WRITE = 2;
/** The peer has ended its direction with close_notify. */
export const ENDED = 0;

const EOF_REASON = 'unexpected eof while reading';

/** Why the last call failed for good, for example `certificate verify failed: certificate has expired`. */
export let outcomeReason = '';

/** WANTS_READ, WANTS_WRITE, ENDED, or -errno: -EPROTO when the peer broke TLS or refused us. */
export function outcomeOf(connection: number, result: number): number {
  const number = errno();
  let kind = ssl.SSL_get_error(connection, result);
  let reason = '';
  if (kind === SSL_ERROR_SSL) {
    // Asked again with the queue empty: had somebody else left an error there, this call would only have to wait.
    reason = drainErrors();
    const again = ssl.SSL_get_error(connection, result);
    if (again === SSL_ERROR_WANT_READ || again === SSL_ERROR_WANT_WRITE) kind = again;
  }
  if (kind === SSL_ERROR_WANT_READ) return WANTS_READ;
  if (kind === SSL_ERROR_WANT_WRITE) return WANTS_WRITE;
  if (kind === SSL_ERROR_ZERO_RETURN) return ENDED;
  if (reason.includes('verify failed')) {
    const verification = verifyReason(ssl.SSL_get_verify_result(connection));
    if (verification !== undefined) reason += `: ${verification}`;
  }
  if (reason === EOF_REASON || (reason === '' && (number === 0 || number === EAGAIN))) {
    // TCP ended without close_notify: what is missing is unknown, so it counts as a reset.
    outcomeReason = EOF_REASON;
    return -ECONNRESET;
  }
  outcomeReason = reason === '' ? errnoName(number) : reason;
  return reason === '' ? -number : -EPROTO;
}
