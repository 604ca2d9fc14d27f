import { hboneContract } from '../support/hbone-contract.ts';
import { goPeer } from '../support/hbone-peer-go.ts';
import { oursOn } from '../support/hbone-peer-ours.ts';
import { withLoop } from '../support/reactor.ts';

const go = await goPeer();

hboneContract('our client to a Go x/net/http2 server', (work) => withLoop((loop) => work(oursOn(loop), go)), [
  // A Go handler that returns ends the response and resets the rest of the request: its server cannot half-close.
  'the server may end first and still receive',
]);
