import { hboneContract } from '../support/hbone-contract.ts';
import { nodePeer } from '../support/hbone-peer-node.ts';
import { oursOn } from '../support/hbone-peer-ours.ts';
import { withLoop } from '../support/reactor.ts';

hboneContract('a node:http2 client to our server', (work) => withLoop((loop) => work(nodePeer, oursOn(loop))));
