/**
 * The plugin as container runtimes meet it: started by libcni behind the reference plugins, in real namespaces, for every
 * version of CNI it claims. What libcni gave the plugin and what it made of the answer is compared, not only the end.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CNI_VERSIONS, isAtLeast } from '../../cni-plugin/cni-version.ts';
import { pictureOf } from '../support/enrolment.ts';
import { buildLibcni, type LibcniAnswer, LibcniNode } from '../support/libcni.ts';

const programs = await buildLibcni();

function refusal({ error }: LibcniAnswer): number | undefined {
  return error?.code;
}

function succeeded(answer: LibcniAnswer): LibcniAnswer {
  if (answer.error !== undefined) assert.fail(answer.error.text);
  return answer;
}

/** Starts of our plugin. */
function ourStarts({ executions }: LibcniAnswer): readonly string[] {
  return (executions ?? []).filter(({ plugin }) => plugin === 'ambit-cni').map(({ command }) => command);
}

describe('libcni', () => {
  for (const version of CNI_VERSIONS) {
    it(`takes a pod of the mesh through its life, CNI ${version}`, async () => {
      await using node = await LibcniNode.create(programs);
      await node.startAgent();
      const pod = node.emptyPod('web');
      const empty = pictureOf(pod);
      const list = node.chain(version);
      succeeded(await node.call('validate', list));

      const added = succeeded(await node.call('add', list, pod));
      const ours = added.executions?.findLast(({ plugin }) => plugin === 'ambit-cni');
      assert.deepEqual(ours?.output, ours?.input?.prevResult, 'the result passes unchanged');
      assert.equal(ours?.output?.cniVersion, version);
      assert.equal(added.result?.cniVersion, version);
      assert.deepEqual((await node.call('cached', list, pod)).result, added.result);
      const captured = pictureOf(pod);
      assert.match(captured, /table inet ambit/);

      const again = await node.call('add', list, pod);
      assert.match(
        again.error?.text ?? '',
        /plugin type="bridge" failed \(add\)/,
        'the first plugin refuses, as it must',
      );
      assert.equal(pictureOf(pod), captured, 'and nothing of ours is disturbed');

      const checked = await node.call('check', list, pod);
      if (isAtLeast(version, '0.4.0')) {
        assert.deepEqual(ourStarts(succeeded(checked)), ['CHECK']);
        pod.nft('flush chain inet ambit capture-leaving');
        const drifted = await node.call('check', list, pod);
        assert.equal(refusal(drifted), 101);
        assert.match(drifted.error?.message ?? '', /capture-leaving out is missing/);
      } else {
        assert.match(checked.error?.text ?? '', /does not support the CHECK command/);
        assert.deepEqual(ourStarts(checked), []);
      }

      const status = succeeded(await node.call('status', list));
      assert.deepEqual(ourStarts(status), isAtLeast(version, '1.1.0') ? ['STATUS'] : []);

      const removed = succeeded(await node.call('del', list, pod));
      assert.equal(removed.executions?.[0]?.plugin, 'ambit-cni', 'the last plugin of the chain goes first');
      assert.equal('prevResult' in (removed.executions[0]?.input ?? {}), isAtLeast(version, '0.4.0'));
      assert.equal(pictureOf(pod), empty);
      succeeded(await node.call('del', list, pod));
      assert.deepEqual((await node.call('attachments')).attachments ?? [], []);
      succeeded(await node.call('add', list, pod));
      assert.match(pictureOf(pod), /table inet ambit/, 'the same sandbox may come back');
    });

    it(`removes what was never added, CNI ${version}`, async () => {
      await using node = await LibcniNode.create(programs);
      await node.startAgent();
      const pod = node.emptyPod('web');
      const list = node.chain(version);
      succeeded(await node.call('del', list, pod));
      succeeded(await node.call('del', list, pod, { netns: '' }));
      succeeded(await node.call('del', list, pod, { netns: '/run/netns/gone-with-the-reboot', args: [] }));
    });

    it(`hears why a pod cannot start, and cleans up with DEL, CNI ${version}`, async () => {
      await using node = await LibcniNode.create(programs);
      await node.startAgent();
      const pod = node.emptyPod('web');
      const empty = pictureOf(pod);
      const list = node.chain(version);
      if (node.capture !== undefined) node.capture.failNext = new Error('no descriptors left');
      const refused = await node.call('add', list, pod);
      assert.equal(refusal(refused), 100);
      assert.match(refused.error?.text ?? '', /plugin type="ambit-cni" failed \(add\): .*no descriptors left/);
      assert.deepEqual((await node.call('attachments')).attachments ?? [], [], 'a failed ADD is not cached');
      succeeded(await node.call('del', list, pod));
      assert.equal(pictureOf(pod), empty);
      succeeded(await node.call('add', list, pod));
    });

    it(`makes pods wait while no agent answers, and lets them go, CNI ${version}`, async () => {
      await using node = await LibcniNode.create(programs);
      const pod = node.emptyPod('web');
      const list = node.chain(version);
      const waiting = await node.call('add', list, pod);
      assert.equal(refusal(waiting), 11);
      assert.match(waiting.error?.message ?? '', /agent does not listen/);
      assert.match(waiting.error?.details ?? '', /the pod waits until the agent of this node runs/);
      succeeded(await node.call('del', list, pod));
      await node.startAgent();
      succeeded(await node.call('add', list, pod));
      await node.stopAgent();
      if (isAtLeast(version, '0.4.0')) assert.equal(refusal(await node.call('check', list, pod)), 11);
      const removed = succeeded(await node.call('del', list, pod));
      assert.match(removed.stderr, /DEL of sandbox-web: the node agent does not listen/);
    });
  }
});
