import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AmbitError } from '../../../core/errors.ts';
import { Arena } from '../../../reactor/arena.ts';

test('a range is granted exactly when it lies inside the arena', () => {
  const arena = new Arena(1000);
  const any = fc.oneof(fc.integer({ min: -10, max: 1010 }), fc.double(), fc.constantFrom(2 ** 31, 2 ** 53, -1, -0));
  fc.assert(
    fc.property(any, any, (offset, length) => {
      const inside = offset >= 0 && length >= 0 && offset + length <= 1000;
      if (inside) assert.ok(arena.addressOf(offset, length) >= 4096);
      else
        assert.throws(
          () => arena.addressOf(offset, length),
          (e) => e instanceof AmbitError && e.code === 'USAGE',
        );
    }),
  );
  arena.free();
});

test('its memory is zero, belongs to it alone and is given back at once', () => {
  const arena = new Arena(64);
  assert.ok(arena.bytes.every((byte) => byte === 0));
  assert.equal(arena.bytes.buffer.byteLength, 64, 'not a slice of a shared pool');
  const before = process.memoryUsage().arrayBuffers;
  const large = new Arena(64 << 20);
  assert.ok(process.memoryUsage().arrayBuffers - before >= 64 << 20);
  large.free();
  assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 20);
  assert.throws(
    () => large.addressOf(0, 0),
    (e) => e instanceof AmbitError && e.code === 'CLOSED',
  );
  arena.free();
});
