import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HBONE_LIMITS, HBONE_LIMITS_TABLE } from '../../../hbone/limits.ts';
import { HBONE_HTTP2_LIMITS, HTTP2_LIMITS_TABLE } from '../../../reactor/http2/limits.ts';

test('every limit of HTTP/2 sessions has exactly one row in its table', () => {
  assert.deepEqual(HTTP2_LIMITS_TABLE.map((row) => row.key).sort(), Object.keys(HBONE_HTTP2_LIMITS).sort());
});

test('every limit of the tunnel library has exactly one row in its table', () => {
  assert.deepEqual(HBONE_LIMITS_TABLE.map((row) => row.key).sort(), Object.keys(HBONE_LIMITS).sort());
});

test('the windows follow the wire format of the field and the connection holds four streams', () => {
  assert.equal(HBONE_HTTP2_LIMITS.initialWindowBytes, 4_194_304);
  assert.equal(HBONE_HTTP2_LIMITS.connectionWindowBytes, 4 * HBONE_HTTP2_LIMITS.initialWindowBytes);
  assert.equal(HBONE_HTTP2_LIMITS.maxFrameBytes, 1_048_576);
  assert.equal(HBONE_HTTP2_LIMITS.maxHeaderListBytes, 65_536);
  assert.equal(HBONE_HTTP2_LIMITS.maxConcurrentStreams, 200);
});
