/** Rows 1-9 and 11 of the attack table: what a peer says too often or wrongly ends in one bounded refusal. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HBONE_HTTP2_LIMITS } from '../../reactor/http2/limits.ts';
import { inHostileWorld } from '../support/hostile-world.ts';
import {
  ACK,
  END_HEADERS,
  END_STREAM,
  frame,
  hpackInteger,
  literals,
  setting,
  TYPE,
  text,
  uint32,
} from '../support/raw-http2.ts';
import { until } from '../support/reactor.ts';

const ENHANCE_YOUR_CALM = 11;
const COMPRESSION_ERROR = 9;
const PROTOCOL_ERROR = 1;
const FLOW_CONTROL_ERROR = 3;
const CANCEL = 8;

test('row 1: rapid resets end the session after the burst', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    for (let index = 0; index < 2000 && !raw.closed; index++) {
      const id = 1 + index * 2;
      raw.connectRequest(id, world.echo);
      raw.send(TYPE.reset, 0, id, uint32(CANCEL));
    }
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
    assert.ok(world.connects() <= HBONE_HTTP2_LIMITS.earlyResets.burst + 50, `${world.connects()} connects`);
    assert.equal(world.counters.floods, 1);
  }));

test('row 1: malformed requests that provoke our resets end the session', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    const block = literals([
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
      [':authority', 'b:2'],
    ]);
    for (let index = 0; index < 500 && !raw.closed; index++) raw.send(TYPE.headers, END_HEADERS, 1 + index * 2, block);
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
    assert.equal(world.connects(), 1, 'only the innocent tunnel');
  }));

test('row 2: requests that make the server reset (zero increments) end the session and cancel their upstreams', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    for (let index = 0; index < 500 && !raw.closed; index++) {
      const id = 1 + index * 2;
      raw.connectRequest(id, world.echo);
      raw.send(TYPE.windowUpdate, 0, id, uint32(0));
    }
    await raw.untilClosed();
    await until(world.loop, 'a refusal', () => world.refusals.length > 0);
    await until(world.loop, 'only the innocent stream is left', () => world.server.server.stats.streams === 1);
  }));

test('row 2: DATA after END_STREAM is answered with an error, again and again with the end of the session', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    for (let index = 0; index < 300 && !raw.closed; index++) {
      const id = 1 + index * 2;
      raw.connectRequest(id, world.echo);
      raw.send(TYPE.data, END_STREAM, id);
      raw.send(TYPE.data, 0, id, Buffer.from('more'));
    }
    await raw.untilClosed();
    await until(world.loop, 'a refusal', () => world.refusals.length > 0);
  }));

test('row 3: a header block that never ends is cut off', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.send(TYPE.headers, 0, 1, literals([[':method', 'CONNECT']]));
    for (let index = 0; index < 10_000 && !raw.closed; index++) {
      raw.send(TYPE.continuation, 0, 1, literals([['x-filler', 'y']]));
    }
    await raw.untilClosed();
    await until(world.loop, 'a refusal', () => world.refusals.length > 0);
  }));

test('row 3: a connection that dies inside a header block leaves nothing behind', () =>
  inHostileWorld(async (world) => {
    for (let round = 0; round < 50; round++) {
      const raw = await world.attacker();
      raw.send(TYPE.headers, 0, 1, literals([[':method', 'CONNECT']]));
      raw.send(TYPE.continuation, 0, 1, literals([['x-filler', 'y'.repeat(100)]]));
      raw.destroy();
    }
    await until(world.loop, 'the sessions are gone', () => world.server.server.stats.sessions === 1);
  }));

test('row 4: a header list that unfolds to megabytes is reset, repeated it ends the session', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    // One field of 3,000 bytes enters the dynamic table, then a byte each refers to it.
    const bomb = Buffer.concat([
      literals([[':method', 'CONNECT']]),
      Buffer.from([0x40]),
      text('x-bomb'),
      text('b'.repeat(3000)),
      Buffer.alloc(10_000, 0x80 | 62),
    ]);
    raw.send(TYPE.headers, END_HEADERS, 1, bomb);
    await raw.frame('reset', (candidate) => candidate.type === TYPE.reset && candidate.streamId === 1);
    for (let index = 1; index < 300 && !raw.closed; index++) raw.send(TYPE.headers, END_HEADERS, 1 + index * 2, bomb);
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
    assert.equal(world.connects(), 1, 'only the innocent tunnel');
  }));

test('row 4: a header block of more bytes than any list may have is not even decoded', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.send(TYPE.headers, END_HEADERS, 1, Buffer.alloc(HBONE_HTTP2_LIMITS.maxHeaderListBytes + 1, 0x82));
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
  }));

test('row 4: a request with more than the allowed fields is reset and its neighbour on the session lives', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.connectRequest(1, world.echo);
    await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === 1);
    const many = Array.from({ length: 40 }, (_, index) => [`x-${index}`, 'v'] as const);
    raw.connectRequest(3, world.echo, many);
    await raw.frame('reset', (candidate) => candidate.type === TYPE.reset && candidate.streamId === 3);
    raw.send(TYPE.data, 0, 1, Buffer.from('still here'));
    const echoed = await raw.frame('echo', (candidate) => candidate.type === TYPE.data && candidate.streamId === 1);
    assert.equal(echoed.payload.toString(), 'still here');
  }));

test('row 4: a table size beyond the agreed one is a compression error', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.send(
      TYPE.headers,
      END_HEADERS,
      1,
      Buffer.concat([hpackInteger(5, 0x20, 1 << 20), literals([[':method', 'CONNECT']])]),
    );
    assert.equal(await raw.goaway(), COMPRESSION_ERROR);
    await world.refused('H2_PROTOCOL');
  }));

test('row 5: a flood of PINGs ends the session', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    for (let index = 0; index < 1000 && !raw.closed; index++) raw.send(TYPE.ping, 0, 0, Buffer.alloc(8, index));
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
    const answered = raw.frames.filter((candidate) => candidate.type === TYPE.ping && candidate.flags === ACK);
    assert.ok(answered.length <= HBONE_HTTP2_LIMITS.pings.burst + 10, `${answered.length} answers`);
  }));

test('row 6: a flood of SETTINGS ends the session', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    for (let index = 0; index < 1000 && !raw.closed; index++) raw.send(TYPE.settings, 0, 0, setting(3, index + 1));
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
  }));

test('row 6: one SETTINGS frame with thousands of entries ends the session', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.send(TYPE.settings, 0, 0, Buffer.concat(Array.from({ length: 2000 }, () => setting(4, 65_535))));
    await raw.untilClosed();
    await until(world.loop, 'a refusal', () => world.refusals.length > 0);
  }));

test('row 7: empty DATA frames without end are cut off', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.connectRequest(1, world.echo);
    for (let index = 0; index < 1000 && !raw.closed; index++) raw.send(TYPE.data, 0, 1);
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
  }));

test('row 7: DATA that is all padding is cut off', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.connectRequest(1, world.echo);
    const padded = Buffer.concat([Buffer.from([255]), Buffer.alloc(255)]);
    for (let index = 0; index < 1000 && !raw.closed; index++) raw.send(TYPE.data, 8, 1, padded);
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
  }));

test('row 8: PRIORITY frames are ignored, a flood of them ends the session', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.send(TYPE.priority, 0, 1, Buffer.concat([uint32(3), Buffer.from([16])]));
    raw.connectRequest(1, world.echo);
    await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === 1);
    for (let index = 0; index < 1000 && !raw.closed; index++) {
      raw.send(TYPE.priority, 0, 3 + index * 2, Buffer.concat([uint32(1), Buffer.from([16])]));
    }
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
  }));

test('frames of unknown types are ignored, a flood of them ends the session', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.send(0xfa, 0, 0, Buffer.from('extension'));
    raw.connectRequest(1, world.echo);
    await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === 1);
    for (let index = 0; index < 2000 && !raw.closed; index++) raw.send(0xfa, 0, 0);
    assert.equal(await raw.goaway(), ENHANCE_YOUR_CALM);
    await world.refused('H2_FLOOD');
  }));

test('row 9: a window pushed over its maximum ends the session and frees it, a hundred times', () =>
  inHostileWorld(async (world) => {
    for (let round = 0; round < 100; round++) {
      const raw = await world.attacker();
      raw.send(TYPE.windowUpdate, 0, 0, uint32(0x7fffffff));
      assert.equal(await raw.goaway(), FLOW_CONTROL_ERROR);
      raw.destroy();
    }
    await until(world.loop, 'the sessions are gone', () => world.server.server.stats.sessions === 1);
    assert.equal(world.refusals.length, 100);
  }));

test('row 9: a window pushed over its maximum on one stream resets that stream only', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    raw.connectRequest(1, world.echo);
    raw.connectRequest(3, world.echo);
    await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === 3);
    raw.send(TYPE.windowUpdate, 0, 3, uint32(0x7fffffff));
    await raw.frame('reset', (candidate) => candidate.type === TYPE.reset && candidate.streamId === 3);
    raw.send(TYPE.data, 0, 1, Buffer.from('neighbour'));
    await raw.frame('echo', (candidate) => candidate.type === TYPE.data && candidate.streamId === 1);
  }));

test('row 11: streams beyond the announced number are refused and those below it work', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    const total = HBONE_HTTP2_LIMITS.maxConcurrentStreams + 50;
    // One write: the server has not seen our acknowledgement of its SETTINGS, so the excess is refused stream by stream.
    const requests = Array.from({ length: total }, (_, index) =>
      frame(
        TYPE.headers,
        END_HEADERS,
        1 + index * 2,
        literals([
          [':method', 'CONNECT'],
          [':authority', world.echo],
        ]),
      ),
    );
    raw.write(Buffer.concat(requests));
    await raw.until('refusals', () => raw.frames.filter((candidate) => candidate.type === TYPE.reset).length === 50);
    for (const refused of raw.frames.filter((candidate) => candidate.type === TYPE.reset)) {
      assert.equal(refused.payload.readUInt32BE(0), 7, 'REFUSED_STREAM');
    }
    raw.send(TYPE.data, 0, 1, Buffer.from('first'));
    await raw.frame('echo', (candidate) => candidate.type === TYPE.data && candidate.streamId === 1);
  }));

test('garbage instead of the preface closes the connection', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker(null);
    raw.write(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'));
    await raw.untilClosed();
    await world.refused('H2_PROTOCOL');
  }));

test('a frame larger than announced and a frame on a stream that never was end the session', () =>
  inHostileWorld(async (world) => {
    const large = await world.attacker();
    const head = Buffer.alloc(9);
    head.writeUIntBE(HBONE_HTTP2_LIMITS.maxFrameBytes + 1, 0, 3);
    large.write(head);
    assert.equal(await large.goaway(), 6);
    const strange = await world.attacker();
    strange.send(TYPE.data, 0, 7, Buffer.from('x'));
    assert.equal(await strange.goaway(), PROTOCOL_ERROR);
    await until(world.loop, 'both refused', () => world.refusals.length === 2);
  }));
