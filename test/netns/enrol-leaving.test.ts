/**
 * A pod that joins or leaves the mesh while it works: connections that stand go on, in either direction, captured or not,
 * and new ones take the new way at once. With the self-test, and with overrides that change.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import type { EnrolmentReport } from '../../agent/enrol/observer.ts';
import { testRedirection } from '../../agent/enrol/self-tests.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { EnrolmentWorld, quietPictureOf, requestFor } from '../support/enrolment.ts';
import { eventually } from '../support/eventually.ts';
import type { TestPod } from '../support/netns.ts';
import { readBytes } from '../support/socket-exchange.ts';

/** The reports about pods, as `name: report`. */
function recordingObserver() {
  const reports: string[] = [];
  const podChanged = ({ name }: { name: string }, report: EnrolmentReport): void => {
    reports.push(`${name}: ${report.kind}${report.kind === 'enrolled' ? ` ${report.selfTest}` : ''}`);
  };
  return { reports, podChanged };
}

async function echoes(socket: Socket, text: string): Promise<void> {
  socket.write(text);
  assert.equal((await readBytes(socket, text.length)).toString(), text);
}

async function greeting(from: TestPod, host: string, port: number): Promise<Socket> {
  const socket = await (await from.process()).connect(host, port);
  assert.match((await readBytes(socket, 'agent:15001\n'.length)).toString(), /^agent:1500[16]\n$/);
  return socket;
}

describe('a pod that works while it joins', () => {
  it('keeps its connections, in both directions, and its next ones are captured', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, peer] = [world.addPod('web'), world.addPod('peer')];
    await (await pod.process()).listen(8080, 'echo');
    await (await peer.process()).listen(8080, 'echo');
    const out = await (await pod.process()).connect(peer.address, 8080);
    const into = await (await peer.process()).connect(pod.address, 8080);
    await echoes(out, 'before');
    await echoes(into, 'before');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    for (const socket of [out, into]) await echoes(socket, 'after');
    (await greeting(pod, peer.address, 8080)).destroy();
    (await greeting(peer, pod.address, 8080)).destroy();
    for (const socket of [out, into]) {
      await echoes(socket, 'still');
      socket.destroy();
    }
  });
});

describe('a pod that works while it leaves', () => {
  it('keeps what is captured until it ends by itself; new connections are plain at once; then nothing of ours is left', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, peer] = [world.addPod('web'), world.addPod('peer')];
    await (await pod.process()).listen(8080, 'echo');
    await (await peer.process()).listen(8080, 'echo');
    const untouched = quietPictureOf(pod);
    const observer = recordingObserver();
    const { enrolment, capture } = await world.open({ observer, leavingQuietMs: 50 });
    await enrolment.add(requestFor(pod));
    const out = await greeting(pod, peer.address, 8080);
    const into = await greeting(peer, pod.address, 8080);

    await enrolment.leave('demo/web', 'the label is gone');
    const plainOut = await (await pod.process()).connect(peer.address, 8080);
    const plainIn = await (await peer.process()).connect(pod.address, 8080);
    for (const socket of [plainOut, plainIn]) await echoes(socket, 'plain');
    assert.equal(out.destroyed || into.destroyed, false);
    assert.deepEqual(
      enrolment.list().map(({ state }) => state),
      ['leaving'],
    );
    assert.equal((await enrolment.check(requestFor(pod))).kind, 'ignored');

    // The agent's end answers the end of the application's: nothing was cut.
    for (const socket of [out, into]) {
      const ended = new Promise((resolve) => socket.once('end', resolve));
      socket.resume().end();
      await ended;
    }
    await eventually('the pod is let go', () => assert.deepEqual(enrolment.list(), []));
    assert.equal(quietPictureOf(pod), untouched);
    for (const socket of [plainOut, plainIn]) {
      await echoes(socket, 'to the end');
      socket.destroy();
    }
    assert.deepEqual(observer.reports, ['web: enrolled ', 'web: leaving', 'web: gone']);
    assert.deepEqual(capture.calls, ['add web', 'leaving uid-web', 'remove uid-web']);
  });

  it('is captured again, without having been cut, when it comes back', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, peer] = [world.addPod('web'), world.addPod('peer')];
    await (await peer.process()).listen(8080, 'echo');
    const { enrolment, capture } = await world.open({ leavingQuietMs: 50 });
    await enrolment.add(requestFor(pod));
    const rules = quietPictureOf(pod);
    const held = await greeting(pod, peer.address, 8080);
    await enrolment.leave('demo/web', 'the label is gone');
    const plain = await (await pod.process()).connect(peer.address, 8080);
    await echoes(plain, 'plain');
    await enrolment.enrolRunning({
      pod: podOf(pod),
      attachment: undefined,
      netns: { path: pod.path },
      overrides: { captureInbound: true, virtualInterfaces: [] },
      probePorts: undefined,
      running: true,
    });
    const again = await greeting(pod, peer.address, 8080);
    await echoes(plain, 'goes on');
    assert.equal(held.destroyed, false);
    assert.equal(quietPictureOf(pod).replaceAll(/handle [0-9]+/g, ''), rules.replaceAll(/handle [0-9]+/g, ''));
    assert.deepEqual(capture.calls, ['add web', 'leaving uid-web', 'staying uid-web']);
    for (const socket of [held, plain, again]) socket.destroy();
  });

  it('goes on leaving under the next agent while the former one still carries its connections', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, peer] = [world.addPod('web'), world.addPod('peer')];
    const untouched = quietPictureOf(pod);
    const first = await world.open({ leavingQuietMs: 60_000 });
    await first.enrolment.add(requestFor(pod));
    const held = await greeting(pod, peer.address, 8080);
    await first.enrolment.leave('demo/web', 'the label is gone');
    await first.enrolment.close();
    const { enrolment } = await world.open({ leavingQuietMs: 50 });
    assert.equal((await enrolment.restore()).restored, 1);
    await enrolment.sweep();
    assert.deepEqual(
      enrolment.list().map(({ state }) => state),
      ['leaving'],
    );
    const ended = new Promise((resolve) => held.once('end', resolve));
    held.resume().end();
    await ended;
    await eventually('the pod is let go', () => assert.deepEqual(enrolment.list(), []));
    assert.equal(quietPictureOf(pod), untouched);
  });

  it('is let go by the next agent, whose predecessor took the connections with it', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('web');
    const untouched = quietPictureOf(pod);
    const first = await world.open({ leavingQuietMs: 60_000 });
    await first.enrolment.add(requestFor(pod));
    await first.enrolment.leave('demo/web', 'the label is gone');
    await first.enrolment.close();
    await first.capture[Symbol.asyncDispose]();
    const { enrolment } = await world.open();
    assert.equal((await enrolment.restore()).dropped, 1);
    assert.equal(quietPictureOf(pod), untouched);
  });
});

describe('the self-test', () => {
  it('proves that connections of a pod are captured, on both families', async () => {
    await using world = await EnrolmentWorld.create();
    const observer = recordingObserver();
    const { enrolment } = await world.open({ observer, selfTest: true });
    await enrolment.add(requestFor(world.addPod('web')));
    await eventually('the outcome', () =>
      assert.deepEqual(observer.reports, ['web: enrolled running', 'web: enrolled passed']),
    );
  });

  it('is passed also when the agent ends its connection before its beginning was seen', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('web');
    const { enrolment, capture } = await world.open();
    await enrolment.add(requestFor(pod));
    capture.resetting = true;
    const netns = NetworkNamespace.openPath(pod.path);
    // Busy until the reset has come: the loop sees the end before the beginning.
    const outcome = testRedirection(netns);
    pod.exec('sleep', '0.2');
    setImmediate(() => pod.exec('sleep', '0.2'));
    assert.equal(await outcome, undefined);
    netns.close();
  });

  it('finds rules that stand and do not work, and notices when they do again', async () => {
    await using world = await EnrolmentWorld.create();
    const observer = recordingObserver();
    const pod = world.addPod('web');
    // Somebody's rules of an earlier hook let packets of the pod pass unseen by ours.
    pod.nft('add table inet other\nadd chain inet other out { type filter hook output priority -350; }');
    pod.nft('add rule inet other out notrack');
    const { enrolment } = await world.open({ observer, selfTest: true });
    await enrolment.add(requestFor(pod));
    await eventually('the failure', () => assert.match(observer.reports.join(), /was not redirected/));
    pod.nft('delete table inet other');
    await eventually('the success', () => assert.match(observer.reports.join(), /enrolled passed/), 10_000);
  });
});

function podOf(pod: TestPod) {
  const { attachment: _, pod: reference, ips } = requestFor(pod);
  return { ...reference, uid: `uid-${pod.label}`, serviceAccount: 'default', ips };
}
