/**
 * OpenSSL keeps errors in a queue of the thread. Whoever sees a failure empties the queue, because a left-over would make the
 * next innocent call on another connection look failed.
 */
import { ssl } from './openssl-library.ts';

/** Empties the queue; reasons in order, joined, for example `certificate verify failed`. Empty text when there was none. */
export function drainErrors(): string {
  const reasons: string[] = [];
  for (let code = ssl.ERR_get_error(); code !== 0; code = ssl.ERR_get_error()) {
    const reason = ssl.ERR_reason_error_string(code) ?? `OpenSSL error ${code.toString(16)}`;
    if (!reasons.includes(reason)) reasons.push(reason);
  }
  return reasons.join(', ');
}

/** Text of a chain verification result, for example `certificate has expired`; undefined for success. */
export function verifyReason(result: number): string | undefined {
  return result === 0 ? undefined : (ssl.X509_verify_cert_error_string(result) ?? `verification error ${result}`);
}
