/** Finds the TCP segment in an Ethernet frame (IPv4 and IPv6 without extension headers). Total: anything else is undefined. */
import { formatSocketAddress, ipFromBytes } from '../../core/ip.ts';

export interface TcpSegment {
  /** `ip:port` */
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly syn: boolean;
  readonly ack: boolean;
  readonly payload: Buffer;
}

const ETHERNET_BYTES = 14;
const TCP = 6;

export function decodeTcpSegment(frame: Buffer): TcpSegment | undefined {
  if (frame.length < ETHERNET_BYTES) return undefined;
  const type = frame.readUInt16BE(12);
  const packet = frame.subarray(ETHERNET_BYTES);
  if (type === 0x0800) return decodeIpv4(packet);
  if (type === 0x86dd) return decodeIpv6(packet);
  return undefined;
}

function decodeIpv4(packet: Buffer): TcpSegment | undefined {
  if (packet.length < 20 || packet[9] !== TCP) return undefined;
  const headerBytes = ((packet[0] ?? 0) & 0x0f) * 4;
  const totalBytes = packet.readUInt16BE(2);
  // Later fragments carry no TCP header; first ones would be cut.
  if ((packet.readUInt16BE(6) & 0x3fff) !== 0 || headerBytes < 20 || totalBytes < headerBytes) return undefined;
  return decodeTcp(packet.subarray(12, 16), packet.subarray(16, 20), packet.subarray(headerBytes, totalBytes));
}

function decodeIpv6(packet: Buffer): TcpSegment | undefined {
  if (packet.length < 40 || packet[6] !== TCP) return undefined;
  return decodeTcp(packet.subarray(8, 24), packet.subarray(24, 40), packet.subarray(40, 40 + packet.readUInt16BE(4)));
}

function decodeTcp(source: Buffer, destination: Buffer, tcp: Buffer): TcpSegment | undefined {
  if (tcp.length < 20) return undefined;
  const headerBytes = ((tcp[12] ?? 0) >> 4) * 4;
  const sourceIp = ipFromBytes(source);
  const destinationIp = ipFromBytes(destination);
  if (headerBytes < 20 || headerBytes > tcp.length || sourceIp === undefined || destinationIp === undefined) {
    return undefined;
  }
  const sourcePort = tcp.readUInt16BE(0);
  const destinationPort = tcp.readUInt16BE(2);
  const flags = tcp[13] ?? 0;
  return {
    source: formatSocketAddress({ ip: sourceIp, port: sourcePort }),
    destination: formatSocketAddress({ ip: destinationIp, port: destinationPort }),
    sourcePort,
    destinationPort,
    sequence: tcp.readUInt32BE(4),
    syn: (flags & 0x02) !== 0,
    ack: (flags & 0x10) !== 0,
    payload: tcp.subarray(headerBytes),
  };
}
