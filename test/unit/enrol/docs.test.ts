/** docs/CNI.md says what the plugin does: error codes and keys, in both directions. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { CNI_ERROR } from '../../../cni-plugin/cni-error.ts';
import { CNI_VERSIONS } from '../../../cni-plugin/cni-version.ts';
import { readNetworkConfig } from '../../../cni-plugin/network-config.ts';

const page = readFileSync(new URL('../../../docs/CNI.md', import.meta.url), 'utf8');

describe('docs/CNI.md', () => {
  it('has a row for every error code and no other', () => {
    const rows = [...page.matchAll(/^\| ([0-9]+) \| `([a-zA-Z]+)` \|/gm)].map(([, code, name]) => [name, Number(code)]);
    assert.deepEqual(Object.fromEntries(rows), CNI_ERROR);
  });

  it('has a row with the right default for every key of ours', () => {
    const {
      cniVersion: _,
      prevResult: __,
      validAttachments: ___,
      ...defaults
    } = readNetworkConfig('{"cniVersion":"1.0.0"}');
    const shown = Object.entries(defaults).map(([key, value]) => [
      key,
      Array.isArray(value) ? JSON.stringify(value) : String(value),
    ]);
    const rows = [...page.matchAll(/^\| `([a-zA-Z]+)` \| `([^`]+)` \|/gm)].map(([, key, value]) => [key, value]);
    assert.deepEqual(rows, shown);
  });

  it('names every version', () => {
    for (const version of CNI_VERSIONS) assert.ok(page.replaceAll('\n', ' ').includes(version), version);
  });
});
