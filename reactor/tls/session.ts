/** A resumable TLS session of a client, detached from any connection. */
export interface TlsSession {
  /** OpenSSL's encoding; contains secrets. */
  readonly encoded: Uint8Array;
  /** Identity and roots of the context it belongs to; another context ignores it. */
  readonly scope: string;
}
