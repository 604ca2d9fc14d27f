/** Everything of ours that a tunnel peer's bytes reach as text or structure: authorities, certificates, names in them. Total and bounded. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { AmbitError } from '../../core/errors.ts';
import { formatSocketAddress, parseAuthority } from '../../core/ip.ts';
import { isSpiffeId } from '../../core/spiffe.ts';
import { readPeerIdentity, uriNames } from '../../hbone/peer-identity.ts';
import { ReceivedHeaders } from '../../reactor/http2/headers.ts';
import { createAuthority } from '../support/pki.ts';

const ID = 'spiffe://cluster.local/ns/a/sa/b';
const root = createAuthority();

function leafDer(uris: string[]): Buffer {
  return new X509Certificate(root.issue({ uris }).certificateChainPem).raw;
}

test('any authority text gives an address, a name or nothing, and what it gives says the same again', () => {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 70_000 })).map(([ip, port]) => `${ip}:${port}`),
    fc.tuple(fc.ipV6(), fc.nat()).map(([ip, port]) => `[${ip}]:${port}`),
    fc.tuple(fc.domain(), fc.nat()).map(([host, port]) => `${host}:${port}`),
  );
  fc.assert(
    fc.property(text, (authority) => {
      const parsed = parseAuthority(authority);
      if (parsed === undefined) return;
      const port = parsed.kind === 'address' ? parsed.address.port : parsed.port;
      assert.ok(port >= 1 && port <= 65_535);
      const again = parsed.kind === 'address' ? formatSocketAddress(parsed.address) : `${parsed.host}:${parsed.port}`;
      assert.deepEqual(parseAuthority(again), parsed);
    }),
    { numRuns: 20_000 },
  );
});

test('any bytes as a chain give a refusal, never an exception', () => {
  const bytes = fc.uint8Array({ maxLength: 400 });
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 12 }), (chain) => {
      assert.ok(readPeerIdentity(chain) instanceof AmbitError);
    }),
    { numRuns: 2000 },
  );
});

test('a damaged certificate gives its identity or a refusal, never an exception or another identity', () => {
  const whole = leafDer([ID]);
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, value, length) => {
      const damaged = Buffer.from(whole.subarray(0, Math.max(length, whole.length - 3)));
      damaged[at] = value;
      const peer = readPeerIdentity([damaged]);
      if (!(peer instanceof AmbitError)) assert.ok(isSpiffeId(peer.identity));
    }),
    { numRuns: 3000 },
  );
});

test('whatever stands in a URI name, only a lone workload identity is one', () => {
  const tricky = fc.oneof(
    fc.constantFrom(
      ID,
      `${ID}, URI:${ID}`,
      `"${ID}"`,
      `${ID}\\`,
      `${ID}/x`,
      ' ',
      ',',
      'DNS:x',
      `${ID}\u0000`,
      ID.toUpperCase(),
    ),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(tricky, { minLength: 1, maxLength: 3 }), (uris) => {
      const latin = uris.map((uri) => Buffer.from(uri, 'latin1').toString('latin1').slice(0, 100));
      const peer = readPeerIdentity([leafDer(latin)]);
      if (latin.length === 1 && latin[0] === ID) assert.ok(!(peer instanceof AmbitError) && peer.identity === ID);
      else assert.ok(peer instanceof AmbitError, JSON.stringify(latin));
    }),
    { numRuns: 300 },
  );
});

test('names in the text form of alternative names are never more or longer than the text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const names = uriNames(text);
      assert.ok(names.join('').length <= text.length);
    }),
    { numRuns: 20_000 },
  );
});

test('a header list counts its size as RFC 9113 does, whatever is in it', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.string(), fc.string())), (pairs) => {
      const headers = new ReceivedHeaders();
      let size = 0;
      for (const [name, value] of pairs) {
        headers.append(name, value);
        size += name.length + value.length + 32;
      }
      assert.equal(headers.byteLength, size);
      assert.equal(headers.count, pairs.length);
      for (const [name] of pairs) assert.notEqual(headers.find(name), undefined);
      assert.equal(typeof headers.status, 'number');
    }),
  );
});
