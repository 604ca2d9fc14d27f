/** The eavesdropper of the check: it must see plaintext where there is some, and accept nothing but TLS elsewhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PcapDecoder } from '../../../sandbox/capture/pcap.ts';
import { decodeTcpSegment, type TcpSegment } from '../../../sandbox/capture/tcp-segment.ts';
import { TlsRecordChecker } from '../../../sandbox/capture/tls-records.ts';
import { WireInspector } from '../../../sandbox/capture/wire-inspector.ts';

const CLIENT = '10.91.1.2:40000';
const SERVER = '10.91.2.2:15008';

function tlsRecord(type: number, body: Buffer): Buffer {
  const header = Buffer.from([type, 3, 3, 0, 0]);
  header.writeUInt16BE(body.length, 3);
  return Buffer.concat([header, body]);
}

function segment(
  source: string,
  destination: string,
  sequence: number,
  payload: Buffer,
  flags = { syn: false, ack: true },
): TcpSegment {
  const port = (address: string): number => Number(address.split(':')[1]);
  return {
    source,
    destination,
    sourcePort: port(source),
    destinationPort: port(destination),
    sequence,
    ...flags,
    payload,
  };
}

/** An Ethernet frame with one IPv4 TCP segment. */
function frame(source: string, destination: string, sequence: number, flags: number, payload: Buffer): Buffer {
  const [sourceIp = '', sourcePort] = source.split(':');
  const [destinationIp = '', destinationPort] = destination.split(':');
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(Number(sourcePort), 0);
  tcp.writeUInt16BE(Number(destinationPort), 2);
  tcp.writeUInt32BE(sequence, 4);
  tcp[12] = 5 << 4;
  tcp[13] = flags;
  const ip = Buffer.alloc(20);
  ip[0] = 0x45;
  ip.writeUInt16BE(40 + payload.length, 2);
  ip[9] = 6;
  Buffer.from(sourceIp.split('.').map(Number)).copy(ip, 12);
  Buffer.from(destinationIp.split('.').map(Number)).copy(ip, 16);
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(0x0800, 12);
  return Buffer.concat([ethernet, ip, tcp, payload]);
}

function pcap(frames: readonly Buffer[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt32LE(1, 20);
  const records = frames.map((each) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(each.length, 8);
    record.writeUInt32LE(each.length, 12);
    return Buffer.concat([record, each]);
  });
  return Buffer.concat([header, ...records]);
}

test('a pcap stream cut anywhere gives the same segments', () => {
  const payload = Buffer.from('GET / HTTP/1.1\r\n\r\n');
  const bytes = pcap([frame(CLIENT, SERVER, 7, 0x02, Buffer.alloc(0)), frame(CLIENT, SERVER, 8, 0x10, payload)]);
  for (let cut = 1; cut < bytes.length; cut++) {
    const seen: TcpSegment[] = [];
    const decoder = new PcapDecoder((each) => {
      const found = decodeTcpSegment(Buffer.from(each));
      if (found !== undefined) seen.push(found);
    });
    decoder.push(bytes.subarray(0, cut));
    decoder.push(bytes.subarray(cut));
    assert.equal(seen.length, 2);
    assert.equal(seen[0]?.syn, true);
    assert.deepEqual([seen[1]?.source, seen[1]?.destination, seen[1]?.sequence], [CLIENT, SERVER, 8]);
    assert.deepEqual(seen[1]?.payload, payload);
  }
});

test('bytes that are no pcap are refused, and no frame crashes the decoder', () => {
  assert.throws(() => new PcapDecoder(() => {}).push(Buffer.alloc(24, 'x')), /not a pcap stream/);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      decodeTcpSegment(Buffer.from(bytes));
    }),
  );
});

test('TLS records pass in pieces of any size; anything else is noticed', () => {
  const stream = Buffer.concat([
    tlsRecord(22, Buffer.alloc(300, 1)),
    tlsRecord(20, Buffer.from([1])),
    tlsRecord(23, Buffer.alloc(16_640, 2)),
  ]);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 700 }), (size) => {
      const checker = new TlsRecordChecker();
      for (let offset = 0; offset < stream.length; offset += size) checker.push(stream.subarray(offset, offset + size));
      assert.equal(checker.isTls, true);
    }),
  );
  for (const wrong of ['GET / HTTP/1.1', 'SSH-2.0', 'PRI * HTTP/2.0']) {
    const checker = new TlsRecordChecker();
    checker.push(Buffer.concat([tlsRecord(23, Buffer.alloc(10)), Buffer.from(wrong)]));
    assert.equal(checker.isTls, false, wrong);
  }
});

test('a connection of TLS records is tls, also with repeated segments', () => {
  const inspector = new WireInspector([]);
  const hello = tlsRecord(22, Buffer.alloc(50, 3));
  inspector.add(segment(CLIENT, SERVER, 0xffff_fff0, Buffer.alloc(0), { syn: true, ack: false }));
  inspector.add(segment(SERVER, CLIENT, 99, Buffer.alloc(0), { syn: true, ack: true }));
  // Crosses the end of the sequence space.
  inspector.add(segment(CLIENT, SERVER, 0xffff_fff1, hello));
  inspector.add(segment(CLIENT, SERVER, 0xffff_fff1, hello));
  inspector.add(segment(SERVER, CLIENT, 100, hello));
  const [connection] = inspector.report().connections;
  assert.deepEqual(
    [connection?.verdict, connection?.bytes, connection?.gaps, connection?.client, connection?.serverPort],
    ['tls', 110, false, CLIENT, 15008],
  );
});

test('segments that come before their turn are judged when the missing one is there', () => {
  const stream = Buffer.concat([tlsRecord(22, Buffer.alloc(100, 1)), tlsRecord(23, Buffer.alloc(100, 2))]);
  const inspector = new WireInspector([]);
  inspector.add(segment(CLIENT, SERVER, 9, Buffer.alloc(0), { syn: true, ack: false }));
  for (const [from, to] of [
    [150, 210],
    [100, 150],
    [0, 40],
  ] as const) {
    inspector.add(segment(CLIENT, SERVER, 10 + from, stream.subarray(from, to)));
  }
  assert.deepEqual([inspector.report().connections[0]?.gaps, inspector.report().connections[0]?.bytes], [true, 40]);
  inspector.add(segment(CLIENT, SERVER, 50, stream.subarray(40, 100)));
  const [connection] = inspector.report().connections;
  assert.deepEqual([connection?.gaps, connection?.bytes, connection?.verdict], [false, 210, 'tls']);
});

test('one plaintext byte stream in a connection makes it plaintext, whatever the port, and its words are found', () => {
  const inspector = new WireInspector(['secret word']);
  inspector.add(segment(CLIENT, SERVER, 1, Buffer.alloc(0), { syn: true, ack: false }));
  inspector.add(segment(SERVER, CLIENT, 1, Buffer.alloc(0), { syn: true, ack: true }));
  inspector.add(segment(CLIENT, SERVER, 2, tlsRecord(22, Buffer.alloc(9))));
  inspector.add(segment(SERVER, CLIENT, 2, Buffer.from('HTTP/1.1 200 secret word')));
  const report = inspector.report();
  assert.equal(report.connections[0]?.verdict, 'plaintext');
  assert.match(report.connections[0]?.sample ?? '', /^HTTP\/1\.1 200/);
  assert.equal(report.words.length, 1);
});

test('what cannot be judged is counted, not passed over', () => {
  const inspector = new WireInspector([]);
  inspector.add(segment(CLIENT, SERVER, 500, Buffer.from('in the middle')));
  assert.equal(inspector.report().notFollowed, 1);
  inspector.add(segment('10.91.1.9:1', SERVER, 1, Buffer.alloc(0), { syn: true, ack: false }));
  inspector.add(segment('10.91.1.9:1', SERVER, 50, Buffer.from('a gap before this')));
  const [connection] = inspector.report().connections;
  assert.deepEqual([connection?.verdict, connection?.gaps], ['silent', true]);
});
