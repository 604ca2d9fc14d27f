/** The lines of a watch, however its bytes are cut; answers and events of any content. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { apiErrorOf, KubernetesApiError } from '../../kube/api-error.ts';
import { kubeObject, requirePage } from '../../kube/object.ts';
import { LineSplitter } from '../../kube/watch.ts';

const line = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replaceAll('\n', ''));

test('lines come out whole and in order, wherever the chunks end', () => {
  fc.assert(
    fc.property(fc.array(line), line, fc.array(fc.nat(200)), (lines, rest, cuts) => {
      const bytes = Buffer.from(`${lines.map((text) => `${text}\n`).join('')}${rest}`);
      const splitter = new LineSplitter(1000);
      const found: string[] = [];
      let start = 0;
      for (const length of [...cuts, bytes.length]) {
        found.push(...splitter.push(bytes.subarray(start, start + length)));
        start += length;
      }
      const expected = lines.filter((text) => text !== '');
      assert.deepEqual(found, expected);
    }),
    { numRuns: 2000 },
  );
});

test('a line beyond the limit is refused, and never more than the limit is held', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(30), { minLength: 1, maxLength: 20 }), (sizes) => {
      const splitter = new LineSplitter(50);
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const feed = (): void => {
        for (const size of sizes) for (const _ of splitter.push(Buffer.alloc(size, 0x61))) assert.fail('no line ended');
      };
      if (total > 50)
        assert.throws(feed, (thrown) => thrown instanceof KubernetesApiError && thrown.reason === 'EventTooLarge');
      else feed();
    }),
    { numRuns: 500 },
  );
});

test('any JSON is an object, a page or an error, or is refused', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.integer({ min: 100, max: 599 }), (value, status) => {
      kubeObject(value);
      kubeObject({ metadata: value });
      assert.ok(apiErrorOf('GET /', status, value, undefined).message.startsWith('GET /: '));
      try {
        requirePage('GET /', value);
      } catch (thrown) {
        assert.ok(thrown instanceof KubernetesApiError);
      }
    }),
    { numRuns: 2000 },
  );
});
