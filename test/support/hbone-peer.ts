/**
 * What the HBONE contract suite drives. A peer is seen from TCP only, so that it can be this library, `node:http2` or a
 * foreign program:
 *
 *   application --HTTP/1.1 CONNECT--> client peer ==HBONE==> server peer --TCP--> application
 *
 * The client peer is an HTTP/1.1 CONNECT proxy on loopback (`CONNECT ip:port HTTP/1.1`, empty line); it answers `HTTP/1.1 200`
 * when the tunnel stands, else the status the server peer gave (502 when it gave none), and then carries bytes. The server peer
 * dials the authority of each CONNECT and answers 200, or 503 when the dial fails.
 */
import type { SocketAddress } from '../../core/ip.ts';
import type { TlsMaterial } from '../../reactor/tls/context.ts';

export interface RunningPeer {
  /** Where the proxy (client) or the HBONE port (server) listens. */
  readonly address: SocketAddress;
  stop(): Promise<void>;
}

export interface HbonePeer {
  readonly name: string;
  startServer(material: TlsMaterial): Promise<RunningPeer>;
  /** `serverIdentity`: the SPIFFE URI the server must prove. */
  startClient(material: TlsMaterial, server: SocketAddress, serverIdentity: string): Promise<RunningPeer>;
}
