import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeProxyHeader } from '../../../agent/dataplane/proxy-protocol.ts';
import { getIp } from '../../../core/ip.ts';
import { formatSpiffeId } from '../../../core/spiffe.ts';

const IDENTITY = formatSpiffeId({ trustDomain: 'td', namespace: 'n', serviceAccount: 's' });

test('a PROXY header carries both addresses and the identity', () => {
  const header = encodeProxyHeader(
    { ip: getIp('10.0.0.1'), port: 0x1234 },
    { ip: getIp('10.0.0.2'), port: 80 },
    IDENTITY,
  );
  assert.equal(header.subarray(0, 12).toString('hex'), '0d0a0d0a000d0a515549540a');
  assert.deepEqual([...header.subarray(12, 14)], [0x21, 0x11]);
  assert.equal(header.readUInt16BE(14), header.length - 16);
  assert.deepEqual([...header.subarray(16, 28)], [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80]);
  assert.equal(header[28], 0xd0);
  assert.equal(header.readUInt16BE(29), IDENTITY.length);
  assert.equal(header.subarray(31).toString(), IDENTITY);
});

test('addresses of two families are written as IPv6, the IPv4 one mapped', () => {
  const header = encodeProxyHeader({ ip: getIp('10.0.0.1'), port: 1 }, { ip: getIp('fd00::1'), port: 2 }, IDENTITY);
  assert.equal(header[13], 0x21);
  assert.equal(header.subarray(16, 32).toString('hex'), '00000000000000000000ffff0a000001');
  assert.equal(header.subarray(32, 48).toString('hex'), 'fd000000000000000000000000000001');
});
