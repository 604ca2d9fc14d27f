import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  cidrContains,
  cidrFromBytes,
  formatSocketAddress,
  getIp,
  ipFromBytes,
  ipToBytes,
  parseAuthority,
  parseCidr,
  parseIp,
} from '../../../core/ip.ts';

describe('IP addresses', () => {
  it('are canonical once parsed', () => {
    for (const [text, canonical] of [
      ['10.0.0.1', '10.0.0.1'],
      ['::ffff:10.0.0.1', '10.0.0.1'],
      ['::FFFF:0a00:0001', '10.0.0.1'],
      ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
      ['2001:db8:0:1:0:0:0:1', '2001:db8:0:1::1'],
      ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
      ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
      ['::', '::'],
      ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ] as const) {
      assert.equal(parseIp(text), canonical, text);
    }
  });

  it('refuse everything that is not an address', () => {
    for (const text of [
      '',
      '1.2.3',
      '1.2.3.4.5',
      '256.1.1.1',
      '01.2.3.4',
      ' 1.2.3.4',
      'fe80::1%eth0',
      '1::2::3',
      '[::1]',
      'localhost',
    ]) {
      assert.equal(parseIp(text), undefined, text);
    }
  });

  it('survive a round trip through their bytes', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 })),
        (bytes) => {
          const ip = ipFromBytes(bytes);
          assert.ok(ip !== undefined);
          assert.equal(parseIp(ip), ip, 'the text form parses to itself');
          assert.equal(ipFromBytes(ipToBytes(ip)), ip);
        },
      ),
    );
  });

  it('have 4 or 16 bytes and nothing else', () => {
    for (const length of [0, 1, 3, 5, 8, 15, 17]) assert.equal(ipFromBytes(new Uint8Array(length)), undefined);
  });

  it('print with brackets where IPv6 needs them', () => {
    assert.equal(formatSocketAddress({ ip: getIp('10.0.0.1'), port: 80 }), '10.0.0.1:80');
    assert.equal(formatSocketAddress({ ip: getIp('2001:db8::1'), port: 80 }), '[2001:db8::1]:80');
  });
});

describe('CIDR blocks', () => {
  it('contain exactly the addresses that share the prefix', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 4, maxLength: 4 }),
        fc.uint8Array({ minLength: 4, maxLength: 4 }),
        fc.integer({ min: 0, max: 32 }),
        (block, address, length) => {
          const cidr = cidrFromBytes(block, length);
          assert.ok(cidr !== undefined);
          const number = (bytes: Uint8Array): bigint => bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
          const shift = BigInt(32 - length);
          assert.equal(cidrContains(cidr, address), number(block) >> shift === number(address) >> shift);
        },
      ),
    );
  });

  it('never match the other family and refuse lengths out of range', () => {
    const any = parseCidr('0.0.0.0/0');
    assert.ok(any !== undefined);
    assert.equal(cidrContains(any, ipToBytes(getIp('::1'))), false);
    for (const text of ['10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/', '10.0.0.0/08', '::/129', 'x/8', '10.0.0.0/8/8']) {
      assert.equal(parseCidr(text), undefined, text);
    }
    assert.deepEqual(parseCidr('10.1.2.3/8')?.bytes, Uint8Array.of(10, 0, 0, 0));
    assert.equal(parseCidr('10.1.2.3')?.prefixLength, 32);
  });
});

describe('CONNECT authorities', () => {
  it('are an address or a DNS name with a port', () => {
    assert.deepEqual(parseAuthority('10.0.0.1:80'), { kind: 'address', address: { ip: '10.0.0.1', port: 80 } });
    assert.deepEqual(parseAuthority('[2001:db8::1]:65535'), {
      kind: 'address',
      address: { ip: '2001:db8::1', port: 65535 },
    });
    assert.deepEqual(parseAuthority('[::ffff:10.0.0.1]:80'), {
      kind: 'address',
      address: { ip: '10.0.0.1', port: 80 },
    });
    assert.deepEqual(parseAuthority('Server.default.svc.cluster.local:8080'), {
      kind: 'name',
      host: 'server.default.svc.cluster.local',
      port: 8080,
    });
  });

  it('are refused when they are anything else', () => {
    for (const text of [
      '',
      'host',
      'host:',
      ':80',
      '10.0.0.1:0',
      '10.0.0.1:65536',
      '10.0.0.1:080',
      '10.0.0.1:+80',
      '10.0.0.1:8e1',
      'user@10.0.0.1:80',
      'http://10.0.0.1:80',
      '10.0.0.1:80/',
      '10.0.0.1:80\r\nx: y',
      '[fe80::1%eth0]:80',
      '[10.0.0.1]:80',
      '2001:db8::1:80x',
      '2001:db8::1:80',
      '256.0.0.1:80',
      '1.2.3:80',
      '-a.b:80',
      'a..b:80',
      'a b:80',
      'ä.de:80',
      `${'a'.repeat(64)}.b:80`,
      `${'a.'.repeat(200)}b:80`,
    ]) {
      assert.equal(parseAuthority(text), undefined, JSON.stringify(text));
    }
  });

  it('never make the parser throw', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => void parseAuthority(text)));
  });
});
