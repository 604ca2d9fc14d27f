/** What a handshake established, read out of the native connection: protocol, group, certificates, sessions. */
import { allocateBlock, blockFrom, copyFromNative } from '../sys/memory.ts';
import { drainErrors } from '../sys/openssl-errors.ts';
import { CTRL_NEGOTIATED_GROUP, ssl } from '../sys/openssl-library.ts';
import { certificateToDer } from '../sys/pem.ts';
import type { TlsSession } from './session.ts';

const MAX_SESSION_BYTES = 1 << 16;
const out = allocateBlock(16);
const protocols = new Map<string, string>();
const groups = new Map<number, string>();

/** The agreed ALPN name, empty when none was. Equal names are one string. */
export function agreedProtocol(pointer: number): string {
  out.bytes.fill(0);
  ssl.SSL_get0_alpn_selected(pointer, out.address, out.address + 8);
  const length = out.bytes.readUInt32LE(8);
  if (length === 0) return '';
  const name = copyFromNative(Number(out.bytes.readBigUInt64LE(0)), length).toString('latin1');
  const known = protocols.get(name);
  if (known !== undefined) return known;
  if (protocols.size < 64) protocols.set(name, name);
  return name;
}

/** Name of the key exchange group, empty when unknown. Equal names are one string. */
export function agreedGroup(pointer: number): string {
  const group = ssl.SSL_ctrl(pointer, CTRL_NEGOTIATED_GROUP, 0, 0);
  const known = groups.get(group);
  if (known !== undefined) return known;
  const name = ssl.SSL_group_to_name(pointer, group) ?? '';
  if (groups.size < 64) groups.set(group, name);
  return name;
}

/** DER, leaf first. The list OpenSSL keeps for a server leaves the leaf out, a resumed session has the leaf alone. */
export function peerCertificates(pointer: number, role: 'client' | 'server'): Uint8Array[] {
  const leaf = ssl.SSL_get0_peer_certificate(pointer);
  if (leaf === 0) return [];
  const certificates: Uint8Array[] = [certificateToDer(leaf)];
  const chain = ssl.SSL_get_peer_cert_chain(pointer);
  const count = chain === 0 ? 0 : ssl.OPENSSL_sk_num(chain);
  for (let index = role === 'client' ? 1 : 0; index < count; index++) {
    certificates.push(certificateToDer(ssl.OPENSSL_sk_value(chain, index)));
  }
  return certificates;
}

/** True when the peer's leaf is past its end now: OpenSSL does not look again when it resumes a session. */
export function peerCertificateExpired(pointer: number): boolean {
  const leaf = ssl.SSL_get0_peer_certificate(pointer);
  return leaf === 0 || ssl.X509_cmp_current_time(ssl.X509_get0_notAfter(leaf)) <= 0;
}

/** A native session, copied out; undefined when it is larger than anybody would keep. Never throws: OpenSSL calls it. */
export function encodeSession(session: number, scope: string): TlsSession | undefined {
  const length = ssl.i2d_SSL_SESSION(session, 0);
  if (length <= 0 || length > MAX_SESSION_BYTES) return undefined;
  const encoded = allocateBlock(length);
  out.bytes.writeBigUInt64LE(BigInt(encoded.address), 0);
  ssl.i2d_SSL_SESSION(session, out.address);
  return { encoded: encoded.bytes, scope };
}

/** Makes a client offer a session; one of another scope or that cannot be decoded is left out. */
export function offerSession(pointer: number, session: TlsSession, scope: string): void {
  if (session.scope !== scope || session.encoded.length > MAX_SESSION_BYTES) return;
  const encoded = blockFrom(session.encoded);
  out.bytes.writeBigUInt64LE(BigInt(encoded.address), 0);
  const decoded = ssl.d2i_SSL_SESSION(0, out.address, session.encoded.length);
  if (decoded !== 0) {
    ssl.SSL_set_session(pointer, decoded);
    ssl.SSL_SESSION_free(decoded);
  }
  drainErrors();
}
