/**
 * A resumable TLS 1.3 session of a client, detached from any connection and from native memory, so that it can be kept,
 * dropped or sent to another thread. It holds secrets: never log it, never write it to disk.
 */
export interface TlsSession {
  /** OpenSSL's encoding. */
  readonly encoded: Uint8Array;
  /** Own identity and roots of the context it was made under; a context of another scope does not resume it. */
  readonly scope: string;
}
