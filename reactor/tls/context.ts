/**
 * A TLS context: own certificate and key, trusted roots, and the rules of the mesh (TLS 1.3 only, both sides authenticate,
 * two AEAD suites, hybrid post-quantum key exchange first). One per identity and role; made anew when a certificate is
 * renewed. Connections keep the native context alive (OpenSSL counts references), so the owner may free it at any time.
 *
 * Sessions are resumed only under the same own identity and the same roots (the `scope`), because a resumed handshake proves
 * what the first one proved.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { AmbitError } from '../../core/errors.ts';
import { blockFrom, releaseBlock } from '../sys/memory.ts';
import { dropProtocols, encodeProtocols, keepProtocols, newSession, selectProtocol } from '../sys/openssl-callbacks.ts';
import { drainErrors } from '../sys/openssl-errors.ts';
import * as openssl from '../sys/openssl-library.ts';
import { trustRoots, useCertificateChain, usePrivateKey } from '../sys/pem.ts';

const { ssl } = openssl;

/** Bytes of `ticketKeys`: 16 name, 32 HMAC, 32 AES. */
export const TICKET_KEYS_BYTES = 80;
const CIPHER_SUITES = 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256';
/** Key shares are sent for the starred ones: a peer without the hybrid group needs no second round trip. */
const DEFAULT_GROUPS = '?*X25519MLKEM768:?*X25519:?P-256:?P-384';
/** What one read takes from the socket: three full records; below 64 KiB the allocator keeps the freed buffer at hand. */
const READ_BUFFER_BYTES = 50_000;
/** Sums, because the last two lie beyond 32 bits. */
const OPTIONS =
  openssl.OP_CIPHER_SERVER_PREFERENCE +
  openssl.OP_NO_RENEGOTIATION +
  openssl.OP_NO_TX_CERTIFICATE_COMPRESSION +
  openssl.OP_NO_RX_CERTIFICATE_COMPRESSION;
/** A ticket is good for at most this long (and never longer than the peer's certificate). */
const SESSION_SECONDS = 3600;

export interface TlsMaterial {
  /** PEM, leaf first. */
  readonly certificateChainPem: string;
  readonly privateKeyPem: string;
  readonly rootsPem: string;
}

export interface TlsContextOptions {
  /** In order of preference. A server refuses a client that offers only others; one that offers none is let in. */
  readonly alpn: readonly string[];
  /** OpenSSL's group list syntax. */
  readonly groups?: string;
  /** Server: 80 secret bytes shared by the workers of one agent, so that each resumes what another began; absent: keys of this context alone. */
  readonly ticketKeys?: Uint8Array;
  readonly requirePeerCertificate: true;
}

export class TlsContext {
  readonly role: 'client' | 'server';
  /** Digest of own identity and roots; sessions of another scope are not resumed. */
  readonly scope: string;
  #pointer: number;
  #protocols = 0;
  #connections = 0;

  private constructor(role: 'client' | 'server', scope: string, pointer: number) {
    this.role = role;
    this.scope = scope;
    this.#pointer = pointer;
  }

  /** Throws CONFIGURATION for material or options that cannot be used. */
  static create(role: 'client' | 'server', material: TlsMaterial, options: TlsContextOptions): TlsContext {
    const scope = scopeOf(material);
    const pointer = ssl.SSL_CTX_new(ssl.TLS_method());
    if (pointer === 0) throw new AmbitError('CONFIGURATION', `no TLS context: ${drainErrors()}`);
    const context = new TlsContext(role, scope, pointer);
    try {
      applyRules(pointer, options.groups ?? DEFAULT_GROUPS);
      useCertificateChain(pointer, material.certificateChainPem);
      usePrivateKey(pointer, material.privateKeyPem);
      trustRoots(pointer, material.rootsPem);
      if (role === 'server') context.#prepareServer(options);
      else context.#prepareClient(options);
    } catch (error) {
      context.free();
      drainErrors();
      throw error;
    }
    return context;
  }

  /** Gives the context back; live connections keep what they need. Idempotent. */
  free(): void {
    if (this.#pointer === 0) return;
    ssl.SSL_CTX_free(this.#pointer);
    this.#pointer = 0;
    this.#dropUnused();
  }

  /** For `reactor/tls`: a new native connection. Throws CLOSED after `free`. */
  openConnection(): number {
    if (this.#pointer === 0) throw new AmbitError('CLOSED', 'TLS context used after it was freed');
    const connection = ssl.SSL_new(this.#pointer);
    if (connection === 0) throw new AmbitError('SYSTEM_CALL', `SSL_new: ${drainErrors()}`);
    this.#connections++;
    return connection;
  }

  /** For `reactor/tls`: gives back what `openConnection` returned. */
  closeConnection(connection: number): void {
    ssl.SSL_free(connection);
    this.#connections--;
    this.#dropUnused();
  }

  #prepareServer(options: TlsContextOptions): void {
    const pointer = this.#pointer;
    ssl.SSL_CTX_ctrl(pointer, openssl.CTRL_SESSION_CACHE_MODE, openssl.SESSION_CACHE_OFF, 0);
    const scope = blockFrom(Buffer.from(this.scope, 'hex'));
    require1(ssl.SSL_CTX_set_session_id_context(pointer, scope.address, scope.bytes.length), 'session context');
    releaseBlock(scope);
    if (options.ticketKeys !== undefined) useTicketKeys(pointer, options.ticketKeys);
    ssl.SSL_CTX_set_num_tickets(pointer, 1);
    if (options.alpn.length > 0) {
      requireProtocols(options.alpn);
      this.#protocols = keepProtocols(options.alpn);
      ssl.SSL_CTX_set_alpn_select_cb(pointer, selectProtocol, this.#protocols);
    }
  }

  #prepareClient(options: TlsContextOptions): void {
    const pointer = this.#pointer;
    ssl.SSL_CTX_ctrl(pointer, openssl.CTRL_SESSION_CACHE_MODE, openssl.SESSION_CACHE_CLIENT_CALLBACK, 0);
    ssl.SSL_CTX_sess_set_new_cb(pointer, newSession);
    if (options.alpn.length === 0) return;
    requireProtocols(options.alpn);
    const encoded = encodeProtocols(options.alpn);
    const block = blockFrom(encoded);
    const result = ssl.SSL_CTX_set_alpn_protos(pointer, block.address, encoded.length);
    releaseBlock(block);
    if (result !== 0) throw new AmbitError('CONFIGURATION', `ALPN: ${drainErrors()}`);
  }

  #dropUnused(): void {
    if (this.#pointer !== 0 || this.#connections > 0 || this.#protocols === 0) return;
    dropProtocols(this.#protocols);
    this.#protocols = 0;
  }
}

function applyRules(pointer: number, groups: string): void {
  require1(ssl.SSL_CTX_ctrl(pointer, openssl.CTRL_MIN_PROTOCOL, openssl.TLS1_3, 0), 'TLS 1.3');
  require1(ssl.SSL_CTX_ctrl(pointer, openssl.CTRL_MAX_PROTOCOL, openssl.TLS1_3, 0), 'TLS 1.3');
  require1(ssl.SSL_CTX_set_ciphersuites(pointer, CIPHER_SUITES), 'cipher suites');
  const list = blockFrom(Buffer.from(`${groups}\0`));
  const accepted = ssl.SSL_CTX_ctrl(pointer, openssl.CTRL_GROUPS_LIST, 0, list.address);
  releaseBlock(list);
  require1(accepted, `groups ${groups}`);
  const modes = openssl.MODE_PARTIAL_WRITE | openssl.MODE_MOVING_WRITE_BUFFER | openssl.MODE_RELEASE_BUFFERS;
  ssl.SSL_CTX_ctrl(pointer, openssl.CTRL_MODE, modes, 0);
  ssl.SSL_CTX_ctrl(pointer, openssl.CTRL_READ_AHEAD, 1, 0);
  ssl.SSL_CTX_set_default_read_buffer_len(pointer, READ_BUFFER_BYTES);
  ssl.SSL_CTX_set_options(pointer, OPTIONS);
  ssl.SSL_CTX_set_verify(pointer, openssl.VERIFY_PEER_REQUIRED, 0);
  ssl.SSL_CTX_set_timeout(pointer, SESSION_SECONDS);
}

function useTicketKeys(pointer: number, keys: Uint8Array): void {
  if (keys.length !== TICKET_KEYS_BYTES) {
    throw new AmbitError('CONFIGURATION', `ticket keys of ${keys.length} instead of ${TICKET_KEYS_BYTES} bytes`);
  }
  const block = blockFrom(keys);
  const accepted = ssl.SSL_CTX_ctrl(pointer, openssl.CTRL_TICKET_KEYS, TICKET_KEYS_BYTES, block.address);
  block.bytes.fill(0);
  releaseBlock(block);
  require1(accepted, 'ticket keys');
}

/** Own identity (the leaf's alternative names, or its subject) and roots; a renewed certificate keeps the scope. */
function scopeOf(material: TlsMaterial): string {
  try {
    const leaf = new X509Certificate(material.certificateChainPem);
    const identity = leaf.subjectAltName ?? leaf.subject;
    return createHash('sha256').update(identity).update('\0').update(material.rootsPem).digest('hex');
  } catch (error) {
    throw new AmbitError('CONFIGURATION', 'the certificate chain cannot be parsed', { cause: error });
  }
}

function requireProtocols(names: readonly string[]): void {
  const valid = names.length <= 16 && names.every((name) => /^[\x20-\x7e]{1,255}$/.test(name));
  if (!valid) throw new AmbitError('CONFIGURATION', 'ALPN names are 1 to 255 printable characters, at most 16 of them');
}

function require1(result: number, what: string): void {
  if (result !== 1) throw new AmbitError('CONFIGURATION', `${what}: ${drainErrors() || 'not supported'}`);
}
