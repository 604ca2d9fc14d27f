/** One list of what discovery promises, run by a raw client and by the client of the agent. */
import { describe, test } from 'node:test';
import { XDS_CONFORMANCE } from '../support/xds-conformance.ts';
import { AGENT_SUBJECT, RAW_SUBJECT } from '../support/xds-subjects.ts';

for (const subject of [RAW_SUBJECT, AGENT_SUBJECT]) {
  describe(subject.name, () => {
    for (const { name, run } of XDS_CONFORMANCE) test(name, (context) => run(context, subject));
  });
}
