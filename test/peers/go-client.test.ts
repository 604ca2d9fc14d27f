import { hboneContract } from '../support/hbone-contract.ts';
import { goPeer } from '../support/hbone-peer-go.ts';
import { oursOn } from '../support/hbone-peer-ours.ts';
import { withLoop } from '../support/reactor.ts';

const go = await goPeer();

hboneContract('a Go x/net/http2 client to our server', (work) => withLoop((loop) => work(go, oursOn(loop))));
