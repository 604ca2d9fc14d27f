/** Golden texts of the rules: default, ingress, virtual interfaces, both; and what the comparison of listings notices. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { buildRuleset, REMOVE_RULES_TEXT, type RulesMode } from '../../../agent/enrol/rules.ts';
import { compareListing, fingerprint, readListing } from '../../../agent/enrol/rules-listing.ts';
import { NO_OVERRIDES, type TrafficOverrides } from '../../../core/enrolment/overrides.ts';

const GOLDEN = new URL('./golden/', import.meta.url);
const VIRTUAL = { captureInbound: true, virtualInterfaces: ['vm0', 'docker0'] };

const MATRIX: readonly { readonly name: string; readonly overrides: TrafficOverrides; readonly mode?: RulesMode }[] = [
  { name: 'default', overrides: NO_OVERRIDES },
  { name: 'ingress', overrides: { captureInbound: false, virtualInterfaces: [] } },
  { name: 'virtual-interfaces', overrides: VIRTUAL },
  { name: 'ingress-and-virtual-interfaces', overrides: { ...VIRTUAL, captureInbound: false } },
  { name: 'release', overrides: VIRTUAL, mode: 'release' },
];

describe('rules', () => {
  for (const { name, overrides, mode } of MATRIX) {
    it(`are the golden text for ${name}`, () => {
      const file = new URL(`${name}.nft`, GOLDEN);
      const { text } = buildRuleset(overrides, mode);
      if (process.env.UPDATE_GOLDEN === 'true') writeFileSync(file, text);
      assert.equal(text, readFileSync(file, 'utf8'));
    });
  }

  it('hold one statement per line and one id per rule', () => {
    const { text, rules } = buildRuleset(VIRTUAL);
    for (const line of text.trimEnd().split('\n')) assert.match(line, /^(add|delete) (table|chain|rule) inet ambit\b/);
    assert.equal(new Set(rules.map(({ id }) => id)).size, rules.length);
  });

  it('redirect nothing but first packets', () => {
    const redirects = buildRuleset(VIRTUAL).rules.filter(({ text }) => text.includes('redirect'));
    assert.equal(redirects.length, 4);
    for (const { text } of redirects) assert.match(text, /tcp flags & \(fin \| syn \| rst \| ack\) == syn/);
  });

  it('stop redirecting for release, and keep marking', () => {
    const { text } = buildRuleset(NO_OVERRIDES, 'release');
    assert.ok(!text.includes('redirect'));
    assert.match(text, /mark-leaving ct mark/);
    assert.match(text, /capture-leaving \{ type nat/, 'the hook that translates what was redirected stays');
  });

  it('are removed whether they exist or not', () => {
    assert.equal(REMOVE_RULES_TEXT, 'add table inet ambit\ndelete table inet ambit\n');
  });
});

describe('comparison with a listing', () => {
  const ruleset = buildRuleset(NO_OVERRIDES);
  const listing = JSON.parse(readFileSync(new URL('default.listing.json', GOLDEN), 'utf8'));
  const recorded = fingerprint(ruleset, readListing(listing));
  const differences = (change: (objects: Record<string, never>[]) => void) => {
    const changed = structuredClone(listing);
    change(changed.nftables);
    return compareListing(ruleset, readListing(changed), recorded);
  };

  it('finds nothing in the listing of the same rules', () => {
    assert.deepEqual(compareListing(ruleset, readListing(listing), recorded), []);
    assert.deepEqual(compareListing(ruleset, readListing(listing)), []);
  });

  it('overlooks counters and handles', () => {
    const text = JSON.stringify(listing)
      .replaceAll('"packets":0', '"packets":7')
      .replaceAll(/"handle":\d+/g, '"handle":99');
    assert.deepEqual(compareListing(ruleset, readListing(JSON.parse(text)), recorded), []);
  });

  it('notices rules in another order', () => {
    const swapped = differences((objects) => {
      const at = objects.flatMap((object, index) =>
        JSON.stringify(object).includes('"capture-leaving"') && 'rule' in object ? [index] : [],
      );
      const [first = 0, second = 0] = at;
      [objects[first], objects[second]] = [objects[second] ?? {}, objects[first] ?? {}];
    });
    assert.deepEqual(swapped, ['the rules stand in another order']);
  });

  it('notices rules of another version of the agent', () => {
    const other = { ...recorded, text: 'another' };
    assert.match(String(compareListing(ruleset, readListing(listing), other)), /another version of the agent/);
  });

  it('notices that the table is missing', () => {
    assert.match(String(compareListing(ruleset, undefined, recorded)), /is missing/);
  });

  it('reads any JSON without failing otherwise than with DECODE', () => {
    for (const odd of [null, 7, 'x', [], {}, { nftables: {} }])
      assert.throws(() => readListing(odd), { code: 'DECODE' });
    for (const odd of [{ nftables: [] }, { nftables: [null, 7, { rule: null }, { chain: 3 }] }]) {
      assert.deepEqual(readListing(odd), { chains: [], rules: [] });
    }
  });
});
