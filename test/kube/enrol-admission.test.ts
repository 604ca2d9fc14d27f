/** A CNI call for a brand-new pod: known from the copy, from the API server itself, or not at all, and then it waits. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AmbitError } from '../../core/errors.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { addRequest, grantAgents, isCaptured, KubeEnrolmentWorld } from '../support/kube-enrolment.ts';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };

let api: KubeApi;
before(async () => {
  api = await openKubeApi({ crds: false });
  await grantAgents(api);
});
after(() => api[Symbol.asyncDispose]());

function refusal(code: string, message: RegExp) {
  return (thrown: unknown): boolean =>
    thrown instanceof AmbitError && thrown.code === code && message.test(thrown.message);
}

describe('a CNI call for a new pod', () => {
  it('captures it before it has an address in the API, and the pod says so', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { enrolment } = await world.start();
    const uid = await world.createObject(world.meshed, 'web');
    const pod = await world.addNetns('web');
    assert.equal((await enrolment.add(addRequest(pod, world.meshed, 'web', uid))).kind, 'done');
    assert.ok(isCaptured(pod));
    await eventually('the pod says so', async () =>
      assert.equal(await world.statusOf(world.meshed, 'web'), 'enabled; True Enrolled'),
    );
    assert.deepEqual(
      enrolment.list().map(({ pod: held }) => held.ips),
      [[pod.address, pod.address6]],
    );
  });

  it('for a pod that is not part of the mesh changes nothing, and a label later finds it where the runtime said', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { enrolment } = await world.start({ netnsDirectories: [] });
    const uid = await world.createObject(world.plain, 'web');
    const pod = world.node.addPod('web');
    assert.equal((await enrolment.add(addRequest(pod, world.plain, 'web', uid))).kind, 'ignored');
    await world.setStatus(world.plain, 'web', 'Running', [pod.address]);
    await world.label(`namespaces/${world.plain}`, AMBIENT);
    await eventually('captured', () => assert.ok(isCaptured(pod)));
    const later = await enrolment.del({
      attachment: addRequest(pod, world.plain, 'web', uid).attachment,
      pod: undefined,
    });
    assert.equal(later.kind, 'done', 'the runtime may let it go by the name it gave the sandbox');
  });

  it('asks the API server itself when the copy still shows its predecessor; the pod says so when the copy caught up', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { enrolment, source } = await world.start();
    await eventually('the copy is there', () => assert.ok(source.directory.synced));
    const uid = await world.createObject(world.meshed, 'web');
    const pod = await world.addNetns('web');
    await eventually('the pod is known', () => assert.ok(source.directory.findPod(world.meshed, 'web')));
    const { findPod } = source.directory;
    source.directory.findPod = (...name) => {
      const facts = findPod.apply(source.directory, name);
      return facts === undefined ? undefined : { ...facts, uid: 'former' };
    };
    try {
      assert.equal((await enrolment.add(addRequest(pod, world.meshed, 'web', uid))).kind, 'done');
    } finally {
      source.directory.findPod = findPod;
    }
    await world.annotate(world.meshed, 'web', { touched: 'yes' });
    await eventually('the pod says so', async () =>
      assert.equal(await world.statusOf(world.meshed, 'web'), 'enabled; True Enrolled'),
    );
  });

  it('is refused, for the runtime to repeat it, while the pod cannot be known; and succeeds when it can', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { enrolment, source } = await world.start({ podWaitMs: 600 });
    await eventually('the copy is there', () => assert.ok(source.directory.synced));
    const pod = await world.addNetns('web');
    await api.stopServer();
    try {
      await assert.rejects(
        enrolment.add(addRequest(pod, world.meshed, 'web', 'uid')),
        refusal('UNKNOWN_WORKLOAD', /pod meshed-[0-9]+\/web is not known here, and could not be asked for: /),
      );
    } finally {
      await api.startServer();
    }
    assert.ok(!isCaptured(pod));
    const uid = await world.createObject(world.meshed, 'web');
    await assert.rejects(
      enrolment.add(addRequest(pod, world.meshed, 'web', 'another')),
      refusal('UNKNOWN_WORKLOAD', /only with another UID/),
    );
    await eventually('the call succeeds', async () =>
      assert.equal((await enrolment.add(addRequest(pod, world.meshed, 'web', uid))).kind, 'done'),
    );
  });

  it('is answered from the copy while the API server is away', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { enrolment, source } = await world.start();
    const uid = await world.createObject(world.meshed, 'web');
    const pod = await world.addNetns('web');
    await eventually('the pod is known', () => assert.ok(source.directory.findPod(world.meshed, 'web')));
    await api.stopServer();
    try {
      assert.equal((await enrolment.add(addRequest(pod, world.meshed, 'web', uid))).kind, 'done');
    } finally {
      await api.startServer();
    }
  });

  it('for a pod that is bound to another node is none of ours', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { enrolment } = await world.start({ podWaitMs: 500 });
    const uid = await world.createObject(world.meshed, 'web', { spec: { nodeName: 'elsewhere' } });
    const pod = await world.addNetns('web');
    await assert.rejects(
      enrolment.add(addRequest(pod, world.meshed, 'web', uid)),
      refusal('UNKNOWN_WORKLOAD', /is not known here/),
    );
  });
});
