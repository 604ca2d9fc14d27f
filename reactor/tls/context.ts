import { AmbitError } from '../../core/errors.ts';

export interface TlsMaterial {
  /** PEM, leaf first. */
  readonly certificateChainPem: string;
  readonly privateKeyPem: string;
  readonly rootsPem: string;
}
export interface TlsContextOptions {
  readonly alpn: readonly string[];
  readonly groups?: string;
  /** 80 bytes, shared by the workers of one agent. */
  readonly ticketKeys?: Uint8Array;
  readonly requirePeerCertificate: true;
}
export class TlsContext {
  static create(_role: 'client' | 'server', _material: TlsMaterial, _options: TlsContextOptions): TlsContext {
    throw new AmbitError('USAGE', 'not there yet');
  }
  /** Live connections keep what they need. Idempotent. */
  free(): void {}
}
