import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { billOfMaterials, packagesOf } from '../../../scripts/image/bill-of-materials.ts';

const INPUTS = {
  version: '1.2.3',
  lock: {
    packages: {
      'node_modules/@scope/one': { version: '1.0.0', license: 'MIT', integrity: 'sha512-AAEC' },
      'node_modules/two': { version: '2.0.0' },
    },
  },
  packages: new Set(['node_modules/two', 'node_modules/@scope/one']),
  debianPackages: 'libc6\t2.36-9+deb12u14\tamd64\tglibc\nnftables\t1.0.6-2\tamd64\tnftables\n',
  dateMs: 1_700_000_000_000,
};

describe('the bill of materials', () => {
  test('names npm packages with licence and hash, Debian packages and the runtime', () => {
    const { components } = billOfMaterials(INPUTS);
    const urls = components.map(({ purl }) => purl);
    assert.deepEqual(urls.slice(0, 5), [
      'pkg:npm/%40scope/one@1.0.0',
      'pkg:npm/two@2.0.0',
      'pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64',
      'pkg:deb/debian/nftables@1.0.6-2?arch=amd64',
      `pkg:generic/node@${process.versions.node}`,
    ]);
    assert.ok(urls.includes(`pkg:generic/openssl@${encodeURIComponent(process.versions.openssl ?? '')}`));
    assert.deepEqual(components[0]?.licenses, [{ expression: 'MIT' }]);
    assert.deepEqual(components[0]?.hashes, [{ alg: 'SHA-512', content: '000102' }]);
  });

  test('is the same document for the same inputs, and another one for others', () => {
    assert.deepEqual(billOfMaterials(INPUTS), billOfMaterials(INPUTS));
    assert.notEqual(billOfMaterials({ ...INPUTS, dateMs: 0 }).serialNumber, billOfMaterials(INPUTS).serialNumber);
    assert.match(
      String(billOfMaterials(INPUTS).serialNumber),
      /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
  });

  test('is refused when a package is not in the lock file', () => {
    assert.throws(
      () => billOfMaterials({ ...INPUTS, packages: new Set(['node_modules/three']) }),
      /does not know node_modules.three/,
    );
  });

  test('finds the package of a source by the innermost node_modules', () => {
    const sources = [
      'agent/main.ts',
      'node_modules/@scope/one/lib/a.js',
      'node_modules/two/index.js',
      'node_modules/two/node_modules/four/index.js',
      'builtin:node:http',
    ];
    assert.deepEqual(
      [...packagesOf(sources)],
      ['node_modules/@scope/one', 'node_modules/two', 'node_modules/two/node_modules/four'],
    );
  });
});
