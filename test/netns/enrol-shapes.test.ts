/** Enrolment of pods that are not like most: one family only, IPv6 that comes and goes, and many of them at once. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { getIp } from '../../core/ip.ts';
import { EnrolmentWorld, pictureOf, requestFor } from '../support/enrolment.ts';
import type { TestPod } from '../support/netns.ts';

/** For every interface of the pod, loopback included. */
function switchIpv6(pod: TestPod, on: boolean): void {
  pod.exec('sysctl', '-qw', `net.ipv6.conf.all.disable_ipv6=${on ? 0 : 1}`);
}

describe('a pod', () => {
  it('without IPv6 is captured, checked and let go with IPv4 alone', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    switchIpv6(pod, false);
    const { enrolment } = await world.open();
    const before = pictureOf(pod);
    const request = requestFor(pod, { ips: [getIp(pod.address)] });
    assert.equal((await enrolment.add(request)).kind, 'done');
    assert.match(pod.ip('route show table 100'), /local default dev lo/);
    assert.equal((await enrolment.check(request)).kind, 'done');
    await enrolment.del({ attachment: request.attachment, pod: undefined });
    assert.equal(pictureOf(pod), before);
  });

  it('with an IPv6 address alone is captured', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    pod.ip(`addr del ${pod.address}/24 dev eth0`);
    const { enrolment } = await world.open();
    const request = requestFor(pod, { ips: [getIp(pod.address6)] });
    assert.equal((await enrolment.add(request)).kind, 'done');
    assert.equal((await enrolment.check(request)).kind, 'done');
  });

  it('that switches IPv6 on later lacks its route until it is repaired, and CHECK says so', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    switchIpv6(pod, false);
    const { enrolment } = await world.open();
    const request = requestFor(pod, { ips: [getIp(pod.address)] });
    await enrolment.add(request);
    switchIpv6(pod, true);
    await assert.rejects(enrolment.check(request), /IPv6 local route in table 100 is missing/);
    assert.equal((await enrolment.add(request)).kind, 'done');
    assert.equal((await enrolment.check(request)).kind, 'done');
  });

  it('that switches IPv6 off later is as it should be, and leaves nothing behind', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment } = await world.open();
    const request = requestFor(pod, { ips: [getIp(pod.address)] });
    await enrolment.add(request);
    switchIpv6(pod, false);
    assert.equal((await enrolment.check(request)).kind, 'done');
    await enrolment.del({ attachment: request.attachment, pod: undefined });
    assert.doesNotMatch(pod.exec('nft', 'list', 'ruleset'), /ambit/);
    switchIpv6(pod, true);
    assert.doesNotMatch(pod.ip('rule') + pod.ip('-6 rule'), /lookup 100/);
  });
});

describe('pods that come at once', () => {
  it('are each captured, and let go, without one in the way of another', async () => {
    await using world = await EnrolmentWorld.create();
    const pods = ['a', 'b', 'c', 'd', 'e', 'f'].map((label) => world.addPod(label));
    const before = pods.map(pictureOf);
    const { enrolment } = await world.open();
    const answers = await Promise.all(pods.map((pod) => enrolment.add(requestFor(pod))));
    assert.deepEqual(new Set(answers.map(({ kind }) => kind)), new Set(['done']));
    assert.equal(readdirSync(join(world.runDirectory, 'pods')).length, pods.length);
    const checks = await Promise.all(pods.map((pod) => enrolment.check(requestFor(pod))));
    assert.deepEqual(new Set(checks.map(({ kind }) => kind)), new Set(['done']));
    await Promise.all(pods.map((pod) => enrolment.del({ attachment: requestFor(pod).attachment, pod: undefined })));
    assert.deepEqual(pods.map(pictureOf), before);
    assert.deepEqual(readdirSync(join(world.runDirectory, 'pods')), []);
  });
});
