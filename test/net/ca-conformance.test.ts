/** One list of what the certificate RPC promises, run by a raw client and by the client of the agent. */
import { describe, test } from 'node:test';
import { AGENT_CA_SUBJECT, CA_CONFORMANCE, RAW_CA_SUBJECT } from '../support/ca-conformance.ts';

for (const subject of [RAW_CA_SUBJECT, AGENT_CA_SUBJECT]) {
  describe(subject.name, () => {
    for (const { name, run } of CA_CONFORMANCE) test(name, (context) => run(context, subject));
  });
}
