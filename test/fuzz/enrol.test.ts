/** Whatever arrives, every decoder of enrolment gives a value or its one kind of error. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readPodUid } from '../../agent/enrol/find-netns.ts';
import { readPodFacts } from '../../agent/enrol/pod-facts.ts';
import { parseListeners } from '../../agent/enrol/pod-netns.ts';
import { readPodObjects } from '../../agent/enrol/pod-objects.ts';
import { buildRuleset } from '../../agent/enrol/rules.ts';
import { compareListing, readListing } from '../../agent/enrol/rules-listing.ts';
import { readSandbox } from '../../agent/enrol/sandbox-store.ts';
import { decodeStoredPod } from '../../agent/enrol/stored-pod.ts';
import { CniError } from '../../cni-plugin/cni-error.ts';
import { readNetworkConfig } from '../../cni-plugin/network-config.ts';
import { addressesOf, convertResult } from '../../cni-plugin/result.ts';
import { readOverrides } from '../../core/enrolment/overrides.ts';
import { AmbitError } from '../../core/errors.ts';

const RUNS = { numRuns: 1_000 };

describe('decoders of enrolment', () => {
  it('state files', () => {
    const almost = fc.record({
      version: fc.constantFrom(1, 2, '1'),
      pod: fc.record({
        uid: fc.string(),
        name: fc.string(),
        namespace: fc.string(),
        serviceAccount: fc.string(),
        ips: fc.jsonValue(),
      }),
      attachment: fc.jsonValue(),
      netns: fc.jsonValue(),
      overrides: fc.jsonValue(),
      rules: fc.jsonValue(),
    });
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), almost), (value) => onlyThrows(isDecode, () => decodeStoredPod(value))),
      RUNS,
    );
  });

  it('listings of nft', () => {
    const object = fc.dictionary(fc.constantFrom('rule', 'chain', 'set', 'table', 'x'), fc.jsonValue());
    const listing = fc.oneof(fc.jsonValue(), fc.record({ nftables: fc.array(fc.oneof(object, fc.jsonValue())) }));
    const ruleset = buildRuleset({ captureInbound: true, virtualInterfaces: [] });
    const read = (value: unknown) => assert.notDeepEqual(compareListing(ruleset, readListing(value)), []);
    fc.assert(
      fc.property(listing, (value) => onlyThrows(isDecode, () => read(value))),
      RUNS,
    );
  });

  it('YAML of pods', () => {
    const fragments = fc.constantFrom(
      'kind: Pod\n',
      'metadata:\n',
      '  name: x\n',
      '  labels: {a: &a b, c: *a}\n',
      '---\n',
      'spec: [\n',
      '- ',
      '"',
      '\t',
      '? ',
      '!!binary x\n',
      '<<: *a\n',
    );
    const text = fc.oneof(
      fc.string(),
      fc.array(fc.oneof(fragments, fc.string({ maxLength: 5 }))).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(text, (value) => void readPodObjects(value)),
      RUNS,
    );
  });

  it('annotations', () => {
    fc.assert(
      fc.property(fc.string(), (value) => {
        const { overrides } = readOverrides({ 'istio.io/reroute-virtual-interfaces': value });
        const lines = buildRuleset(overrides).text.trimEnd().split('\n');
        for (const line of lines)
          assert.match(line, /^(add|delete) (table|chain|rule) inet ambit[^"\n]*("[A-Za-z0-9_.:@-]+"[^"\n]*)*$/);
      }),
      RUNS,
    );
  });

  it('network configurations and results of other plugins', () => {
    const config = fc.record(
      { cniVersion: fc.constantFrom('0.3.1', '1.0.0', '1.1.0'), prevResult: fc.jsonValue(), runDir: fc.jsonValue() },
      { requiredKeys: ['cniVersion'] },
    );
    const result = fc.record(
      { ips: fc.jsonValue(), routes: fc.jsonValue(), interfaces: fc.jsonValue() },
      { requiredKeys: [] },
    );
    const text = fc.oneof(
      fc.string(),
      fc.oneof(fc.jsonValue(), config).map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(text, (value) => onlyThrows(isCniError, () => readNetworkConfig(value))),
      RUNS,
    );
    const use = (value: Record<string, unknown>) => [convertResult(value, '0.4.0'), addressesOf(value)];
    fc.assert(
      fc.property(result, (value) => onlyThrows(isCniError, () => use(value))),
      RUNS,
    );
  });

  it('records of sandboxes', () => {
    const almost = fc.record({
      version: fc.constantFrom(1, 2, '1'),
      uid: fc.oneof(fc.string(), fc.constant('uid-a')),
      namespace: fc.constantFrom('demo', 7),
      name: fc.constantFrom('web', ''),
      attachment: fc.oneof(fc.jsonValue(), fc.constant({ containerId: 'c', ifName: 'eth0' })),
      netns: fc.oneof(fc.jsonValue(), fc.constant({ path: '/x', device: '1', inode: '2' })),
      ips: fc.oneof(fc.jsonValue(), fc.constant(['10.0.0.1'])),
    });
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), almost), (value) => onlyThrows(isDecode, () => readSandbox(value))),
      RUNS,
    );
  });

  it('pods of the API server: facts, or an error that names the field', () => {
    const probe = fc.oneof(
      fc.jsonValue(),
      fc.record({ httpGet: fc.oneof(fc.jsonValue(), fc.record({ port: fc.oneof(fc.integer(), fc.string()) })) }),
    );
    const almost = fc.record(
      {
        metadata: fc.oneof(
          fc.jsonValue(),
          fc.record({ name: fc.string(), labels: fc.dictionary(fc.string(), fc.string()) }),
        ),
        spec: fc.oneof(fc.jsonValue(), fc.record({ containers: fc.array(fc.record({ livenessProbe: probe })) })),
        status: fc.oneof(fc.jsonValue(), fc.record({ conditions: fc.jsonValue(), podIPs: fc.jsonValue() })),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), almost), (value) =>
        onlyThrows(
          (error) => error instanceof Error && /must be|is missing/.test(error.message),
          () => readPodFacts(value),
        ),
      ),
      RUNS,
    );
  });

  it('cgroups of processes', () => {
    fc.assert(
      fc.property(fc.string(), (value) => void readPodUid(value)),
      RUNS,
    );
  });

  it('socket tables of the kernel', () => {
    fc.assert(
      fc.property(fc.string(), (value) => void parseListeners(value)),
      RUNS,
    );
  });
});

const isDecode = (error: unknown) => error instanceof AmbitError && error.code === 'DECODE';
const isCniError = (error: unknown) => error instanceof CniError;

function onlyThrows(expected: (error: unknown) => boolean, work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!expected(error)) throw error;
  }
}
