/** Decoders of what plugin and agent say to each other: right input, wrong input, any input. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  decodeAnswer,
  decodeDelRequest,
  decodeGcRequest,
  decodePodRequest,
  parseJson,
} from '../../../core/enrolment/cni-wire.ts';
import { AmbitError } from '../../../core/errors.ts';

const REQUEST = {
  attachment: { containerId: 'c0ffee', ifName: 'eth0' },
  pod: { namespace: 'demo', name: 'web-0', uid: '5a1c' },
  netns: '/var/run/netns/cni-1',
  ips: ['10.1.2.3', '::ffff:10.1.2.4', 'FD00::1'],
};

describe('requests', () => {
  it('come out canonical', () => {
    const { ips, pod } = decodePodRequest(REQUEST);
    assert.deepEqual([ips, pod.uid], [['10.1.2.3', '10.1.2.4', 'fd00::1'], '5a1c']);
  });

  it('need neither a UID nor, for del, a pod', () => {
    assert.equal(decodePodRequest({ ...REQUEST, pod: { namespace: 'demo', name: 'web' } }).pod.uid, undefined);
    assert.equal(decodeDelRequest({ attachment: REQUEST.attachment }).pod, undefined);
  });

  const wrong: readonly [string, unknown][] = [
    ['no object', 7],
    ['a relative path', { ...REQUEST, netns: 'netns' }],
    ['a path with a step up', { ...REQUEST, netns: '/run/netns/../../proc/1/ns/net' }],
    ['a path with a doubled slash', { ...REQUEST, netns: '//run/netns/x' }],
    ['a path with NUL', { ...REQUEST, netns: '/run/netns/x\0y' }],
    ['an endless path', { ...REQUEST, netns: `/${'a'.repeat(5000)}` }],
    ['an address that is none', { ...REQUEST, ips: ['10.1.2'] }],
    ['too many addresses', { ...REQUEST, ips: Array.from({ length: 33 }, () => '10.0.0.1') }],
    ['a container that is a path', { ...REQUEST, attachment: { containerId: '../x', ifName: 'eth0' } }],
    ['an interface with a slash', { ...REQUEST, attachment: { containerId: 'x', ifName: 'a/b' } }],
    ['an interface of 16 characters', { ...REQUEST, attachment: { containerId: 'x', ifName: 'a'.repeat(16) } }],
    ['a pod name with a slash', { ...REQUEST, pod: { namespace: 'demo', name: 'a/b' } }],
    ['a UID that is a path', { ...REQUEST, pod: { ...REQUEST.pod, uid: '../../etc' } }],
  ];
  for (const [name, body] of wrong) {
    it(`are refused: ${name}`, () => assert.throws(() => decodePodRequest(body), { code: 'DECODE' }));
  }

  it('of gc are bounded', () => {
    assert.deepEqual(decodeGcRequest({ validAttachments: [] }).validAttachments, []);
    const many = Array.from({ length: 16_385 }, () => REQUEST.attachment);
    assert.throws(() => decodeGcRequest({ validAttachments: many }), { code: 'DECODE' });
  });
});

describe('answers', () => {
  it('are one of three kinds', () => {
    assert.deepEqual(decodeAnswer({ kind: 'done', detail: 'x', more: 1 }), { kind: 'done', detail: 'x' });
    const failed = { kind: 'failed', code: 'NETNS', detail: 'x', retry: true };
    assert.deepEqual(decodeAnswer(failed), failed);
    assert.throws(() => decodeAnswer({ kind: 'failed', code: 'NETNS', detail: 'x' }), { code: 'DECODE' });
    assert.throws(() => decodeAnswer({ kind: 'maybe', detail: 'x' }), { code: 'DECODE' });
  });
});

describe('every decoder', () => {
  it('gives a value or DECODE for any JSON', () => {
    const decoders = [decodePodRequest, decodeDelRequest, decodeGcRequest, decodeAnswer];
    fc.assert(
      fc.property(
        fc.oneof(
          fc.jsonValue(),
          fc.record({ attachment: fc.jsonValue(), pod: fc.jsonValue(), ips: fc.jsonValue(), netns: fc.jsonValue() }),
        ),
        (body) => {
          for (const decode of decoders) {
            try {
              decode(body);
            } catch (error) {
              assert.ok(error instanceof AmbitError && error.code === 'DECODE', String(error));
            }
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('is reached only by JSON of bounded size', () => {
    assert.throws(() => parseJson('{'), { code: 'DECODE' });
    assert.throws(() => parseJson(' '.repeat(1024 * 1024 + 1)), { code: 'DECODE' });
  });
});
