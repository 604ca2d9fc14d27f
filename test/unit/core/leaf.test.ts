import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Backoff } from '../../../core/backoff.ts';
import { AmbitError, toAmbitError } from '../../../core/errors.ts';
import { formatSpiffeId, parseSpiffeId } from '../../../core/spiffe.ts';

describe('SPIFFE identities', () => {
  it('survive a round trip', () => {
    const parts = { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'frontend' };
    assert.equal(formatSpiffeId(parts), 'spiffe://cluster.local/ns/shop/sa/frontend');
    assert.deepEqual(parseSpiffeId(formatSpiffeId(parts)), parts);
  });

  it('have exactly five segments and no tricks in them', () => {
    for (const text of [
      '',
      'spiffe://',
      'spiffe://td/ns/a/sa/b/',
      'spiffe://td/ns/a/sa/b/c',
      'spiffe://td/ns/a/sa/',
      'spiffe://td/ns//sa/b',
      'spiffe:///ns/a/sa/b',
      'spiffe://td/sa/a/ns/b',
      'SPIFFE://td/ns/a/sa/b',
      'https://td/ns/a/sa/b',
      'spiffe://td/ns/*/sa/b',
      'spiffe://td/ns/../sa/b',
      'spiffe://td/ns/a/sa/b%2f',
      'spiffe://td/ns/a/sa/b?x',
      'spiffe://user@td/ns/a/sa/b',
      'spiffe://td:1/ns/a/sa/b',
      'spiffe://td/ns/a/sa/b\u0000',
    ]) {
      assert.equal(parseSpiffeId(text), undefined, text);
    }
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void parseSpiffeId(`spiffe://${text}`)));
  });
});

describe('back-off', () => {
  it('doubles up to its maximum, jittered between half and all, and starts again after success', () => {
    const low = new Backoff({ firstMs: 100, maxMs: 400, random: () => 0 });
    assert.deepEqual(
      [1, 2, 3, 4].map(() => low.nextDelayMs()),
      [50, 100, 200, 200],
    );
    low.reset();
    assert.equal(low.nextDelayMs(), 50);
    const high = new Backoff({ firstMs: 100, maxMs: 400, random: () => 1 });
    assert.deepEqual(
      [1, 2, 3, 4].map(() => high.nextDelayMs()),
      [100, 200, 400, 400],
    );
  });
});

describe('errors', () => {
  it('keep their code and give foreign ones the stated fallback with the original as cause', () => {
    const own = new AmbitError('CONNECT_FAILED', 'refused', { errno: 111 });
    assert.equal(toAmbitError(own, 'USAGE'), own);
    const foreign = new Error('boom');
    const wrapped = toAmbitError(foreign, 'CA');
    assert.equal(wrapped.code, 'CA');
    assert.equal(wrapped.cause, foreign);
    assert.equal(wrapped.row.retry, true);
    assert.equal(toAmbitError('text', 'XDS').message, 'text');
  });
});
