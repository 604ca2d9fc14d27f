/**
 * Who we are to an API server, and how we know that it is the right one. A credential is asked before every call, so that
 * rotated tokens, certificates and roots are used without a restart. TLS is always verified; there is no setting against it.
 */

export interface CredentialState {
  /** Roots to verify the server with, PEM. */
  readonly ca: string | undefined;
  /** Client certificate and key, PEM. */
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** Value of the `authorization` header. */
  readonly authorization: string | undefined;
}

export interface Credential {
  /** `https://host:port`, perhaps with a path. No slash at the end. */
  readonly server: string;
  /** Name to verify the server by when it is not the host of the URL. */
  readonly serverName: string | undefined;
  /** Rejects with CONFIGURATION or KUBERNETES_API (`Unauthorized`) when there is nothing to use. */
  current(): Promise<CredentialState>;
  /** The server did not accept it: read everything again before the next use. */
  refused(): void;
}
