import { hboneContract } from '../support/hbone-contract.ts';
import { oursOn } from '../support/hbone-peer-ours.ts';
import { withLoop } from '../support/reactor.ts';

hboneContract('ours to ours', (work) => withLoop((loop) => work(oursOn(loop), oursOn(loop))));
