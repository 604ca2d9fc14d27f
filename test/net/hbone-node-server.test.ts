import { hboneContract } from '../support/hbone-contract.ts';
import { nodePeer } from '../support/hbone-peer-node.ts';
import { oursOn } from '../support/hbone-peer-ours.ts';
import { withLoop } from '../support/reactor.ts';

hboneContract('our client to a node:http2 server', (work) => withLoop((loop) => work(oursOn(loop), nodePeer)));
