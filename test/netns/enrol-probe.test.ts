/** Trying every pod at one moment: who is redirected, who is not, and who was not reached in time. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { probePods } from '../../agent/enrol/probe-pods.ts';
import { EnrolmentWorld, requestFor } from '../support/enrolment.ts';

const WITHIN_MS = 3_000;

describe('a try of every pod', () => {
  it('tells the pod whose rules were removed from the others', async () => {
    await using world = await EnrolmentWorld.create();
    const [good, bad] = [world.addPod('good'), world.addPod('bad')];
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(good));
    await enrolment.add(requestFor(bad));
    bad.nft('flush ruleset');
    const outcomes = await probePods(enrolment.list(), WITHIN_MS);
    assert.equal(outcomes.get(`uid-${good.label}`), 'passed');
    assert.match(outcomes.get(`uid-${bad.label}`) ?? '', /was not redirected/);
  });

  it('says what is known when its time is over, and a namespace that is gone fails alone', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('web');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    const [view] = enrolment.list();
    assert.ok(view !== undefined);
    const gone = { ...view, netnsPath: '/var/run/netns/nobody', pod: { ...view.pod, uid: 'gone' } };
    const outcomes = await probePods(
      [view, gone, { ...view, state: 'leaving', pod: { ...view.pod, uid: 'leaving' } }],
      WITHIN_MS,
    );
    assert.equal(outcomes.get(view.pod.uid), 'passed');
    assert.match(outcomes.get('gone') ?? '', /ENOENT|no such file/i);
    assert.equal(outcomes.has('leaving'), false);
    assert.equal((await probePods([view], 0)).size, 0);
  });
});
