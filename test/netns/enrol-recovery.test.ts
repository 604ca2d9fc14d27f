/** What happens to captured pods later: drift, GC, late calls, restarts of the agent. In real namespaces. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { AmbitError } from '../../core/errors.ts';
import { EnrolmentWorld, pictureOf, requestFor } from '../support/enrolment.ts';
import { refusal } from '../support/refusal.ts';

describe('CHECK', () => {
  const drifts: readonly { name: string; script?: string; ip?: string; says: RegExp }[] = [
    { name: 'a deleted table', script: 'delete table inet ambit', says: /table inet ambit is missing/ },
    {
      name: 'a flushed chain',
      script: 'flush chain inet ambit capture-leaving',
      says: /rule capture-leaving out is missing/,
    },
    {
      name: 'an added rule',
      script: 'insert rule inet ambit capture-leaving tcp dport 443 accept comment "hole"',
      says: /capture-leaving hole was added/,
    },
    {
      name: 'a rule with our name that does something else',
      script: [
        'flush chain inet ambit mark-leaving',
        'add rule inet ambit mark-leaving ct mark & 0xfff == 0x222 meta mark set ct mark comment "return-to-agent"',
      ].join('\n'),
      says: /mark-leaving return-to-agent was altered/,
    },
    { name: 'an added chain', script: 'add chain inet ambit extra', says: /extra .*does not belong there/ },
    { name: 'a lost routing rule', ip: 'rule del pref 32764', says: /IPv4 routing rule .* 0 times/ },
    {
      name: 'a doubled routing rule',
      ip: 'rule add fwmark 0x111/0xfff pref 32764 lookup 100',
      says: /IPv4 routing rule .* 2 times/,
    },
    { name: 'a lost IPv6 route', ip: '-6 route flush table 100', says: /IPv6 local route in table 100 is missing/ },
  ];
  it('names every kind of drift, and ADD puts all of it right again', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment } = await world.open();
    const before = pictureOf(pod);
    await enrolment.add(requestFor(pod));
    for (const { name, script, ip, says } of drifts) {
      if (script !== undefined) pod.nft(script);
      if (ip !== undefined) pod.ip(ip);
      await assert.rejects(enrolment.check(requestFor(pod)), refusal('RULES', says), name);
      assert.equal((await enrolment.add(requestFor(pod))).kind, 'done', name);
      assert.equal((await enrolment.check(requestFor(pod))).kind, 'done', name);
    }
    await enrolment.del({ attachment: requestFor(pod).attachment, pod: requestFor(pod).pod });
    assert.equal(pictureOf(pod), before);
  });

  it('notices that nobody listens any more', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment, capture } = await world.open();
    await enrolment.add(requestFor(pod));
    await capture.removePod('uid-client');
    await assert.rejects(enrolment.check(requestFor(pod)), refusal('RULES', /does not listen.*port 15001/));
  });

  it('notices a process of the pod that joins a port of the mesh later, and so does the sweep', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('thief');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    await enrolment.sweep();
    assert.equal(enrolment.list()[0]?.problem, undefined);
    const script =
      "require('net').createServer().listen({ port: 15001, reusePort: true }, () => console.log('listening'))";
    const thief = pod.spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    assert.ok(thief.stdout);
    await once(thief.stdout, 'data', { signal: AbortSignal.timeout(5_000) });
    await assert.rejects(
      enrolment.check(requestFor(pod)),
      refusal('RULES', /a process of the pod listens on port 15001/),
    );
    await enrolment.sweep();
    assert.match(enrolment.list()[0]?.problem ?? '', /listens on port 15001/);
  });

  it('tells a pod that should be captured and is not from one that need not be', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment } = await world.open();
    await assert.rejects(enrolment.check(requestFor(pod)), refusal('RULES', /should be captured and is not/));
  });
});

describe('GC and late calls', () => {
  it('lets go what is not listed, and keeps what is', async () => {
    await using world = await EnrolmentWorld.create();
    const kept = world.addPod('kept');
    const stale = world.addPod('stale');
    const { enrolment } = await world.open();
    const before = pictureOf(stale);
    await enrolment.add(requestFor(kept));
    await enrolment.add(requestFor(stale));
    await enrolment.gc({ validAttachments: [requestFor(kept).attachment] });
    assert.equal(pictureOf(stale), before);
    assert.equal((await enrolment.check(requestFor(kept))).kind, 'done');
  });

  it('ignores the DEL of a former sandbox of the same pod', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    const late = { attachment: { containerId: 'former', ifName: 'eth0' }, pod: requestFor(pod).pod };
    assert.equal((await enrolment.del(late)).kind, 'ignored');
    assert.equal((await enrolment.check(requestFor(pod))).kind, 'done');
  });

  it('replaces a sandbox that went without a DEL', async () => {
    await using world = await EnrolmentWorld.create();
    const former = world.addPod('client');
    const next = world.node.addPod('next');
    const { enrolment } = await world.open();
    const before = pictureOf(former);
    await enrolment.add(requestFor(former));
    const again = requestFor(former, { netns: next.path, attachment: { containerId: 'second', ifName: 'eth0' } });
    await assert.rejects(enrolment.add(again), refusal('NETNS', /none of the pod's addresses/));
    assert.equal(pictureOf(former), before, 'the former sandbox was let go');
    next.ip(`addr add ${former.address}/24 dev eth0`);
    assert.equal((await enrolment.add(again)).kind, 'done');
  });
});

describe('restart of the agent', () => {
  it('takes captured pods up again without touching them', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const first = await world.open();
    await first.enrolment.add(requestFor(pod));
    const before = pictureOf(pod);
    await first.enrolment.close();
    await first.capture[Symbol.asyncDispose]();
    assert.equal(pictureOf(pod), before, 'the rules outlive the agent');

    const second = await world.open();
    assert.deepEqual(await second.enrolment.restore(), { restored: 1, dropped: 0, broken: 0, corruptFiles: 0 });
    assert.equal(pictureOf(pod), before, 'handles included');
    assert.equal((await second.enrolment.check(requestFor(pod))).kind, 'done');
    assert.deepEqual(second.capture.calls, ['add client']);
  });

  it('repairs rules that were damaged meanwhile', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const first = await world.open();
    await first.enrolment.add(requestFor(pod));
    await first.enrolment.close();
    await first.capture[Symbol.asyncDispose]();
    pod.nft('delete table inet ambit');
    pod.ip('rule del pref 32764');
    const second = await world.open();
    assert.equal((await second.enrolment.restore()).restored, 1);
    assert.equal((await second.enrolment.check(requestFor(pod))).kind, 'done');
  });

  it('drops pods whose namespace is gone and sets unreadable files aside', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const first = await world.open();
    await first.enrolment.add(requestFor(pod));
    await first.enrolment.close();
    await first.capture[Symbol.asyncDispose]();
    await pod.remove();
    writeFileSync(join(world.runDirectory, 'pods', 'broken.json'), '{"version":1,');
    const second = await world.open();
    assert.deepEqual(await second.enrolment.restore(), { restored: 0, dropped: 1, broken: 0, corruptFiles: 1 });
    assert.deepEqual(readdirSync(join(world.runDirectory, 'pods')), ['broken.json.corrupt']);
  });

  it('keeps a pod that cannot be taken up closed, reports it, and takes it up once that is possible', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const first = await world.open();
    await first.enrolment.add(requestFor(pod));
    const before = pictureOf(pod);
    await first.enrolment.close();
    await first.capture[Symbol.asyncDispose]();
    const second = await world.open();
    second.capture.failNext = new AmbitError('SYSTEM_CALL', 'not now');
    assert.equal((await second.enrolment.restore()).broken, 1);
    assert.equal(pictureOf(pod), before);
    assert.match(second.enrolment.list()[0]?.problem ?? '', /not now/);
    await assert.rejects(second.enrolment.check(requestFor(pod)), refusal('SYSTEM_CALL', /not now/));
    await second.enrolment.sweep();
    assert.equal((await second.enrolment.check(requestFor(pod))).kind, 'done');
  });

  it('notices while running that a namespace vanished', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    await pod.remove();
    await enrolment.sweep();
    assert.deepEqual(enrolment.list(), []);
    assert.deepEqual(readdirSync(join(world.runDirectory, 'pods')), []);
  });
});
