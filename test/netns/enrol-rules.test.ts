/** Enrolment in real namespaces: rules and routing appear, and vanish without a trace, also when a step fails. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { AmbitError } from '../../core/errors.ts';
import { getIp } from '../../core/ip.ts';
import { EnrolmentWorld, pictureOf, quietPictureOf, requestFor } from '../support/enrolment.ts';
import { refusal } from '../support/refusal.ts';

describe('enrolment of one pod', () => {
  it('captures an eligible pod and lets it go without leaving a trace', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment, capture } = await world.open();
    const before = pictureOf(pod);

    assert.equal((await enrolment.add(requestFor(pod))).kind, 'done');
    const during = pictureOf(pod);
    assert.match(during, /table inet ambit/);
    assert.match(during, /fwmark 0x111\/0xfff lookup 100/);
    assert.match(during, /local default dev lo/);
    assert.deepEqual(readdirSync(join(world.runDirectory, 'pods')), ['uid-client.json']);
    assert.equal((await enrolment.check(requestFor(pod))).kind, 'done');

    const released = await enrolment.del({ attachment: requestFor(pod).attachment, pod: undefined });
    assert.equal(released.kind, 'done');
    assert.equal(pictureOf(pod), before);
    assert.deepEqual(readdirSync(join(world.runDirectory, 'pods')), []);
    assert.deepEqual(capture.calls, ['add client', 'remove uid-client']);
  });

  it('leaves pods that are not eligible untouched', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('outsider', { labels: { 'istio.io/dataplane-mode': 'none' } });
    const { enrolment, capture } = await world.open();
    const before = pictureOf(pod);
    assert.equal((await enrolment.add(requestFor(pod))).kind, 'ignored');
    assert.equal((await enrolment.check(requestFor(pod))).kind, 'ignored');
    assert.equal(pictureOf(pod), before);
    assert.deepEqual(capture.calls, []);
  });

  it('does nothing new when the runtime repeats the call', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment, capture } = await world.open();
    await Promise.all([enrolment.add(requestFor(pod)), enrolment.add(requestFor(pod))]);
    const once = quietPictureOf(pod);
    await enrolment.add(requestFor(pod));
    assert.equal(quietPictureOf(pod), once);
    assert.deepEqual(capture.calls, ['add client']);
  });

  it('is not disturbed by a further interface of the same sandbox, nor by its removal', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment, capture } = await world.open();
    await enrolment.add(requestFor(pod));
    const once = quietPictureOf(pod);
    const second = { containerId: 'sandbox-client', ifName: 'net1' };
    assert.equal(
      (await enrolment.add(requestFor(pod, { attachment: second, ips: [getIp('192.0.2.7')] }))).kind,
      'done',
    );
    assert.equal((await enrolment.del({ attachment: second, pod: requestFor(pod).pod })).kind, 'ignored');
    assert.equal(quietPictureOf(pod), once);
    assert.deepEqual(capture.calls, ['add client']);
  });

  it('waits for a pod that the directory learns of later', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('late');
    world.directory.clear();
    const { enrolment } = await world.open();
    const answer = enrolment.add(requestFor(pod));
    world.directory.put('late');
    assert.equal((await answer).kind, 'done');
  });

  it('refuses a pod that nobody ever hears of', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('ghost');
    world.directory.clear();
    const { enrolment } = await world.open({ podWaitMs: 50 });
    await assert.rejects(enrolment.add(requestFor(pod)), refusal('UNKNOWN_WORKLOAD', /not known here/));
  });

  it('undoes everything when the data plane cannot listen', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment, capture } = await world.open();
    const before = pictureOf(pod);
    capture.failNext = new AmbitError('SYSTEM_CALL', 'port taken');
    await assert.rejects(enrolment.add(requestFor(pod)), refusal('SYSTEM_CALL', /port taken/));
    assert.equal(pictureOf(pod), before);
    assert.deepEqual(enrolment.list(), []);
    assert.equal((await enrolment.add(requestFor(pod))).kind, 'done', 'a later attempt succeeds');
  });

  it('undoes everything when the state cannot be written', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment, capture } = await world.open();
    const before = pictureOf(pod);
    mkdirSync(join(world.runDirectory, 'pods', 'uid-client.json.tmp'));
    await assert.rejects(enrolment.add(requestFor(pod)));
    assert.equal(pictureOf(pod), before);
    assert.deepEqual(capture.calls, ['add client', 'remove uid-client']);
  });
});

describe('proof of the namespace', () => {
  it('refuses the namespace of the node, of another pod, and paths that are none', async () => {
    await using world = await EnrolmentWorld.create();
    const client = world.addPod('client');
    const server = world.addPod('server');
    const { enrolment } = await world.open();
    const add = (netns: string) => enrolment.add(requestFor(client, { netns }));
    await assert.rejects(add('/proc/self/ns/net'), refusal('NETNS', /network of the node/));
    await assert.rejects(add(server.path), refusal('NETNS', /none of the pod's addresses/));
    await assert.rejects(add('/proc/self/ns/mnt'), refusal('NETNS', /./));
    await assert.rejects(add('/etc/hostname'), refusal('NETNS', /./));
    await assert.rejects(add('/run/netns'), refusal('NETNS', /not a network namespace/));
    await assert.rejects(add('/run/netns/ambit-absent'), refusal('NETNS', /./));
    assert.deepEqual(enrolment.list(), []);
  });

  it('refuses a namespace that another pod holds', async () => {
    await using world = await EnrolmentWorld.create();
    const client = world.addPod('client');
    world.directory.put('twin');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(client));
    const before = quietPictureOf(client);
    const twin = requestFor(client, { pod: { namespace: 'demo', name: 'twin', uid: 'uid-twin' } });
    await assert.rejects(enrolment.add(twin), refusal('NETNS', /already belongs to pod uid-client/));
    assert.equal(quietPictureOf(client), before);
  });

  it('refuses a pod whose process already listens on a port of the mesh', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('thief');
    const process = await pod.process();
    await process.listen(15001, 'echo');
    const { enrolment } = await world.open();
    await assert.rejects(enrolment.add(requestFor(pod)), refusal('NETNS', /already listens on port 15001/));
  });

  it('says that the loopback interface is down instead of half-enrolling the pod', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    pod.ip('link set lo down');
    const { enrolment } = await world.open();
    await assert.rejects(enrolment.add(requestFor(pod)), refusal('NETNS', /loopback interface is down/));
    assert.equal(pod.exec('nft', 'list', 'ruleset'), '');
  });
});
