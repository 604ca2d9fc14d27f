/**
 * PROXY protocol version 2 (HAProxy specification, section 2.2), written to applications that take a terminated tunnel
 * with the addresses it had: command PROXY, stream, and the peer's identity in a TLV of type 0xD0 (Istio's).
 */
import { AmbitError } from '../../core/errors.ts';
import { ipToBytes, isIpv6Address, type SocketAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { Arena } from '../../reactor/arena.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';

const SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const VERSION_2_PROXY = 0x21;
const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;
const IDENTITY_TLV = 0xd0;
/** Signature, IPv6 addresses and the longest identity fit. */
const MAX_HEADER_BYTES = 16 + 36 + 3 + 2048;

/** Addresses of different families are both written as IPv6, the IPv4 one mapped (RFC 4291 section 2.5.5.2). */
export function encodeProxyHeader(source: SocketAddress, destination: SocketAddress, identity: SpiffeId): Buffer {
  const v6 = isIpv6Address(source.ip) || isIpv6Address(destination.ip);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(destination.port, 2);
  const name = Buffer.from(identity, 'latin1');
  const tlv = Buffer.alloc(3);
  tlv[0] = IDENTITY_TLV;
  tlv.writeUInt16BE(name.length, 1);
  const body = Buffer.concat([addressBytes(source, v6), addressBytes(destination, v6), ports, tlv, name]);
  const head = Buffer.alloc(4);
  head[0] = VERSION_2_PROXY;
  head[1] = v6 ? TCP_OVER_IPV6 : TCP_OVER_IPV4;
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([SIGNATURE, head, body]);
}

let scratch: Arena | undefined;

/** Writes the header as the first bytes of a fresh connection; the error when the application does not take it. */
export function writeProxyHeader(
  socket: TcpSocket,
  source: SocketAddress,
  destination: SocketAddress,
  identity: SpiffeId,
): AmbitError | undefined {
  const header = encodeProxyHeader(source, destination, identity);
  scratch ??= new Arena(MAX_HEADER_BYTES);
  header.copy(scratch.bytes);
  const written = socket.write(scratch, 0, header.length);
  if (written === header.length) return undefined;
  return new AmbitError('CONNECT_FAILED', 'the application did not take the PROXY header', {
    ...(written < 0 ? { errno: -written } : {}),
  });
}

function addressBytes({ ip }: SocketAddress, v6: boolean): Uint8Array {
  const bytes = ipToBytes(ip);
  if (!v6 || bytes.length === 16) return bytes;
  return Buffer.concat([Buffer.alloc(10), Buffer.from([0xff, 0xff]), bytes]);
}
