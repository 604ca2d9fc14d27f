/** golang.org/x/net/http2 as a peer of the contract suite: a stack that shares nothing with this library. */
import { formatSocketAddress } from '../../core/ip.ts';
import { buildGo, startGoPeer } from './go-programs.ts';
import type { HbonePeer } from './hbone-peer.ts';

/** Builds the program first. */
export async function goPeer(): Promise<HbonePeer> {
  const program = await buildGo('hbone-peer', './hbone-peer');
  return {
    name: 'Go x/net/http2',
    startServer: (material) => startGoPeer({ program, mode: 'server', material, args: [] }),
    startClient: (material, server, serverIdentity) =>
      startGoPeer({ program, mode: 'client', material, args: [formatSocketAddress(server), serverIdentity] }),
  };
}
