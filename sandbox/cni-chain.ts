/**
 * The CNI configuration of a sandbox node, as an administrator would have it in /etc/cni/net.d: a reference plugin that
 * gives the pod its interface and address, then ours. Pure.
 */
import type { CniChain } from './cni.ts';
import { CNI_STATE_DIRECTORY, type NodeLayout } from './layout.ts';

export function cniChain(node: NodeLayout): CniChain {
  return {
    cniVersion: '1.0.0',
    name: 'sandbox',
    plugins: [
      {
        type: 'ptp',
        ipMasq: false,
        ipam: {
          type: 'host-local',
          ranges: [[{ subnet: node.podRange }]],
          routes: [{ dst: '0.0.0.0/0' }],
          dataDir: `${CNI_STATE_DIRECTORY}/${node.name}`,
        },
      },
      { type: 'ambit-cni', runDir: node.runDirectory },
    ],
  };
}
