import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Certificates, type CertificatesOptions } from '../../../agent/state/certificates.ts';
import { renewalTimeMs } from '../../../agent/state/renewal.ts';
import { AmbitError, type ErrorCode } from '../../../core/errors.ts';
import { identityOf, ScriptedSource } from '../../support/certificate-source.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';

const HOUR_MS = 3_600_000;
const A = identityOf('a');

function setUp(options: Partial<CertificatesOptions> = {}) {
  const clock = new FakeClock();
  const source = new ScriptedSource(clock);
  const events: string[] = [];
  const certificates = new Certificates({ source, clock, random: () => 0.5, ...options });
  certificates.subscribe({
    onIssued: ({ identity }) => events.push(`issued ${identity.slice(-1)}`),
    onGone: (identity) => events.push(`gone ${identity.slice(-1)}`),
  });
  return { clock, source, certificates, events };
}

const failsWith = (code: ErrorCode) => (error: unknown) => error instanceof AmbitError && error.code === code;

/** The state of the identity, as the admin page shows it. */
function stateOf(certificates: Certificates, identity = A): string {
  return certificates.status().find((status) => status.identity === identity)?.state.kind ?? 'unknown';
}

describe('asking', () => {
  test('many times for many identities makes one request for each', async () => {
    const { source, certificates } = setUp();
    const identities = Array.from({ length: 100 }, (_, index) => identityOf(`sa-${index}`));
    const rounds = await Promise.all(
      Array.from({ length: 8 }, () => Promise.all(identities.map((identity) => certificates.get(identity)))),
    );
    assert.equal(source.asked.length, 100);
    assert.equal(certificates.status().length, 100);
    for (const round of rounds) assert.deepEqual(round, rounds[0]);
    certificates.close();
  });

  test('twice at once makes one request and gives the same certificate', async () => {
    const { source, certificates, events } = setUp();
    source.mode = 'hold';
    const both = Promise.all([certificates.get(A), certificates.get(A, 'warmUp')]);
    assert.equal(stateOf(certificates), 'initializing');
    assert.equal(certificates.find(A), undefined);
    await source.issue();
    const [first, second] = await both;
    assert.equal(first, second);
    assert.equal(certificates.find(A), first);
    assert.deepEqual([source.asked, events, stateOf(certificates)], [['a'], ['issued a'], 'available']);
    certificates.close();
  });

  test('keeps at most eight requests under way', async () => {
    const { source, certificates } = setUp();
    source.mode = 'hold';
    const all = Promise.all(Array.from({ length: 20 }, (_, index) => certificates.get(identityOf(`sa-${index}`))));
    assert.equal(source.held.length, 8);
    await source.issue();
    assert.equal(source.held.length, 8);
    while (source.held.length > 0) await source.issue();
    await all;
    assert.equal(source.mostAtOnce, 8);
    certificates.close();
  });

  test('beyond the bound of identities is refused', async () => {
    const { certificates } = setUp({ maxIdentities: 1 });
    await certificates.get(A);
    await assert.rejects(certificates.get(identityOf('b')), failsWith('NO_CERTIFICATE'));
    await certificates.get(A);
    certificates.close();
  });

  test('of closed certificates, or while they close, is refused', async () => {
    const { source, certificates, clock } = setUp();
    source.mode = 'hold';
    const waiting = assert.rejects(certificates.get(A), failsWith('CLOSED'));
    certificates.close();
    await waiting;
    await assert.rejects(certificates.get(A), failsWith('CLOSED'));
    await settle();
    assert.equal(clock.pending, 0, 'no timer is left');
  });
});

describe('priority', () => {
  test('real time goes first, warming up next, background last', async () => {
    const { source, certificates } = setUp({ concurrency: 1 });
    source.mode = 'hold';
    const all = [
      certificates.get(identityOf('first'), 'background'),
      certificates.get(identityOf('background'), 'background'),
      certificates.get(identityOf('warm'), 'warmUp'),
      certificates.get(identityOf('real')),
    ];
    while (source.held.length > 0) await source.issue();
    await Promise.all(all);
    assert.deepEqual(source.asked, ['first', 'real', 'warm', 'background']);
    certificates.close();
  });

  test('real time overtakes whoever was warming up before', async () => {
    const { source, certificates } = setUp({ concurrency: 1 });
    source.mode = 'hold';
    const warm = ['a', 'b', 'c'].map((name) => certificates.get(identityOf(name), 'warmUp'));
    const real = certificates.get(identityOf('z'));
    await source.issue();
    assert.deepEqual(source.held, ['z']);
    while (source.held.length > 0) await source.issue();
    await Promise.all([...warm, real]);
    assert.deepEqual(source.asked, ['a', 'z', 'b', 'c']);
    certificates.close();
  });

  test('a second wish at real time lifts a request that waits', async () => {
    const { source, certificates } = setUp({ concurrency: 1 });
    source.mode = 'hold';
    const all = ['a', 'b', 'c'].map((name) => certificates.get(identityOf(name), 'warmUp'));
    all.push(certificates.get(identityOf('c')));
    while (source.held.length > 0) await source.issue();
    await Promise.all(all);
    assert.deepEqual(source.asked, ['a', 'c', 'b']);
    certificates.close();
  });

  test('whoever waits for a connection goes before renewals that are due', async () => {
    const { clock, source, certificates } = setUp({ concurrency: 1 });
    await certificates.get(A);
    await certificates.get(identityOf('b'));
    source.mode = 'hold';
    await clock.advance(HOUR_MS / 2);
    const real = certificates.get(identityOf('z'));
    await source.issue();
    assert.deepEqual(source.held, ['z']);
    while (source.held.length > 0) await source.issue();
    await real;
    certificates.close();
  });
});

describe('renewal', () => {
  test('happens at half of the lifetime, and again at half of the next', async () => {
    const { clock, source, certificates, events } = setUp();
    const first = await certificates.get(A);
    await clock.advance(HOUR_MS / 2 - 1);
    assert.equal(await certificates.get(A), first);
    assert.equal(source.asked.length, 1);
    await clock.advance(1);
    const second = await certificates.get(A);
    assert.notEqual(second, first);
    await clock.advance(HOUR_MS / 2);
    assert.equal(source.asked.length, 3);
    assert.deepEqual(events, ['issued a', 'issued a', 'issued a']);
    certificates.close();
  });

  test('is spread by a twentieth of the lifetime in both directions', () => {
    const certificate = {
      identity: A,
      certificateChainPem: '',
      privateKeyPem: '',
      rootsPem: '',
      notBeforeMs: 0,
      notAfterMs: HOUR_MS,
    };
    const at = (random: number) => renewalTimeMs(certificate, 0, () => random) / HOUR_MS;
    assert.deepEqual(
      [at(0), at(0.5), at(1)].map((share) => share.toFixed(3)),
      ['0.450', '0.500', '0.550'],
    );
  });

  test('of a certificate that was old when it came is not rushed', () => {
    const certificate = {
      identity: A,
      certificateChainPem: '',
      privateKeyPem: '',
      rootsPem: '',
      notBeforeMs: 0,
      notAfterMs: HOUR_MS,
    };
    const delays = [0.6, 0.9, 0.999, 0.9999].map(
      (age) => renewalTimeMs(certificate, age * HOUR_MS, () => 0.5) - age * HOUR_MS,
    );
    assert.deepEqual(delays.map(Math.round), [60_000, 60_000, 1_000, 1_000]);
  });

  test('that fails keeps the valid certificate, retries with growing pauses, and recovers', async () => {
    const { clock, source, certificates, events } = setUp({ firstBackoffMs: 1_000, random: () => 1 });
    const first = await certificates.get(A);
    source.mode = 'refuse';
    await clock.advance(HOUR_MS * 0.55);
    assert.equal(source.asked.length, 2);
    await clock.advance(1_000);
    assert.equal(source.asked.length, 3);
    await clock.advance(1_999);
    assert.equal(source.asked.length, 3);
    await clock.advance(1);
    assert.equal(source.asked.length, 4);
    assert.equal(await certificates.get(A), first);
    assert.equal(stateOf(certificates), 'available');
    source.mode = 'issue';
    await clock.advance(4_000);
    assert.notEqual(await certificates.get(A), first);
    assert.deepEqual(events, ['issued a', 'issued a']);
    certificates.close();
  });

  test('that keeps failing gives up the certificate when it expires, not before', async () => {
    const { clock, source, certificates, events } = setUp();
    const first = await certificates.get(A);
    source.mode = 'refuse';
    await clock.advance(HOUR_MS - 1);
    assert.equal(certificates.find(A), first);
    await clock.advance(1);
    assert.equal(certificates.find(A), undefined);
    assert.deepEqual([events, stateOf(certificates)], [['issued a', 'gone a'], 'unavailable']);
    await assert.rejects(certificates.get(A), failsWith('CA'));
    source.mode = 'issue';
    await clock.advance(150_000);
    assert.equal(stateOf(certificates), 'available');
    certificates.close();
  });
});

describe('failure', () => {
  test('is told to everyone who waits and to everyone who asks until a retry succeeds', async () => {
    const { clock, source, certificates, events } = setUp({ firstBackoffMs: 1_000, random: () => 1 });
    source.mode = 'refuse';
    await Promise.all([1, 2].map(() => assert.rejects(certificates.get(A), failsWith('CA'))));
    await assert.rejects(certificates.get(A), failsWith('CA'));
    assert.deepEqual([source.asked.length, stateOf(certificates), events], [1, 'unavailable', []]);
    await clock.advance(1_000);
    assert.equal(source.asked.length, 2);
    source.mode = 'issue';
    await clock.advance(2_000);
    assert.equal((await certificates.get(A)).identity, A);
    source.mode = 'refuse';
    await clock.advance(HOUR_MS * 0.55);
    const before = source.asked.length;
    await clock.advance(1_000);
    assert.equal(source.asked.length, before + 1, 'the back-off began again with its first step');
    certificates.close();
  });

  test('pauses never exceed the longest, which is short where there is no certificate', async () => {
    const { clock, source, certificates } = setUp({ random: () => 1 });
    source.mode = 'refuse';
    await assert.rejects(certificates.get(A));
    await clock.advance(HOUR_MS);
    const before = source.asked.length;
    await clock.advance(HOUR_MS);
    assert.equal(source.asked.length - before, HOUR_MS / 15_000);
    certificates.close();
  });

  test('is also a certificate that is expired when it comes', async () => {
    const { source, certificates } = setUp();
    source.lifetimeMs = 0;
    await assert.rejects(certificates.get(A), failsWith('CA'));
    assert.equal(stateOf(certificates), 'unavailable');
    certificates.close();
  });

  test('of one identity does not delay the others', async () => {
    const { source, certificates } = setUp({ concurrency: 1 });
    source.mode = 'refuse';
    await assert.rejects(certificates.get(A));
    source.mode = 'issue';
    await certificates.get(identityOf('b'));
    certificates.close();
  });
});

describe('forgetting', () => {
  test('ends the certificate and its renewal', async () => {
    const { clock, source, certificates, events } = setUp();
    await certificates.get(A);
    certificates.forget(A);
    assert.deepEqual([certificates.find(A), certificates.status(), events], [undefined, [], ['issued a', 'gone a']]);
    assert.equal(clock.pending, 0);
    await clock.advance(HOUR_MS);
    assert.equal(source.asked.length, 1);
    certificates.forget(A);
    certificates.close();
  });

  test('ends a request under way and whoever waits for it, and makes room for the next', async () => {
    const { source, certificates, events } = setUp({ concurrency: 1 });
    source.mode = 'hold';
    const forgotten = assert.rejects(certificates.get(A), failsWith('NO_CERTIFICATE'));
    const other = certificates.get(identityOf('b'));
    certificates.forget(A);
    await forgotten;
    await settle();
    assert.deepEqual(source.held, ['b']);
    await source.issue();
    await other;
    assert.deepEqual([certificates.find(A), events], [undefined, ['gone a', 'issued b']]);
    certificates.close();
  });

  test('makes an answer that comes all the same count for nothing', async () => {
    const { source, certificates, events } = setUp();
    source.mode = 'hold';
    source.heedsAbort = false;
    const first = assert.rejects(certificates.get(A), failsWith('NO_CERTIFICATE'));
    certificates.forget(A);
    await first;
    const second = certificates.get(A);
    await source.issue();
    assert.deepEqual([events, certificates.find(A)], [['gone a'], undefined]);
    await source.issue();
    assert.equal(certificates.find(A), await second);
    certificates.close();
  });

  test('and asking again at once makes a new request whose answer counts', async () => {
    const { source, certificates } = setUp();
    source.mode = 'hold';
    const first = assert.rejects(certificates.get(A), failsWith('NO_CERTIFICATE'));
    certificates.forget(A);
    const second = certificates.get(A);
    await first;
    await settle();
    await source.issue();
    assert.equal(certificates.find(A), await second);
    assert.deepEqual(source.asked, ['a', 'a']);
    certificates.close();
  });
});
