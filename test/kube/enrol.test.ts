/**
 * Pods of a node join and leave the mesh as their labels say, told by a real API server. The names follow those of the
 * reference implementation's informer tests, which are requirements here.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { removeHostRules } from '../../agent/enrol/host-probes.ts';
import { AmbitError } from '../../core/errors.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { addRequest, grantAgents, isCaptured, KubeEnrolmentWorld, rulesOf } from '../support/kube-enrolment.ts';
import { StandInCapture } from '../support/stand-in-capture.ts';

const ENROLLED = 'enabled; True Enrolled';
const NOTHING = 'none; none';
const PENDING = 'pending; False Pending';

let api: KubeApi;
before(async () => {
  api = await openKubeApi({ crds: false });
  await grantAgents(api);
});
after(() => api[Symbol.asyncDispose]());

/** Resolves when the API server says so. */
async function says(world: KubeEnrolmentWorld, namespace: string, name: string, wanted: string): Promise<void> {
  await eventually(
    `${namespace}/${name} is ${wanted}`,
    async () => assert.equal(await world.statusOf(namespace, name), wanted),
    30_000,
  );
}

describe('a running pod', () => {
  it('is captured when its namespace is labelled, and let go when the label is taken away', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const pod = await world.addPod(world.plain, 'web');
    const { service } = await world.start();
    await world.enterMesh(world.plain);
    await says(world, world.plain, 'web', ENROLLED);
    assert.ok(isCaptured(pod));
    await world.leaveMesh(world.plain);
    await says(world, world.plain, 'web', NOTHING);
    assert.ok(!isCaptured(pod));
    await eventually('nothing of ours is left', () => assert.equal(rulesOf(pod), ''));
    await eventually('the pod is let go', () => assert.deepEqual(service.list(), []));
    assert.deepEqual(
      (await world.events(world.plain)).sort(),
      [
        'Normal web: the traffic of this pod is captured',
        `Normal web: this pod leaves the mesh: neither the pod nor namespace ${world.plain} is labelled for the mesh`,
      ].sort(),
    );
  });

  it('is captured by its own label, and let go when it opts out of a labelled namespace', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const [own, other] = [await world.addPod(world.plain, 'own'), await world.addPod(world.meshed, 'other')];
    await world.start();
    await says(world, world.meshed, 'other', ENROLLED);
    await world.label(`namespaces/${world.plain}/pods/own`, { 'istio.io/dataplane-mode': 'ambient' });
    await world.label(`namespaces/${world.meshed}/pods/other`, { 'istio.io/dataplane-mode': 'none' });
    await says(world, world.plain, 'own', ENROLLED);
    await says(world, world.meshed, 'other', NOTHING);
    assert.deepEqual([isCaptured(own), isCaptured(other)], [true, false]);
  });

  it('that was there before the agent, in a namespace labelled before, is captured', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const pods = [await world.addPod(world.meshed, 'a'), await world.addPod(world.meshed, 'b')];
    await world.start();
    await says(world, world.meshed, 'a', ENROLLED);
    await says(world, world.meshed, 'b', ENROLLED);
    assert.ok(pods.every(isCaptured));
  });

  it('stays outside, undisturbed, until the agent can serve it', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const pod = await world.addPod(world.meshed, 'web');
    let missing: string | undefined = 'state manager';
    let asked = 0;
    const notReady = (): string | undefined => {
      asked++;
      return missing;
    };
    await world.start({ notReady });
    await eventually('it was wanted several times', () => assert.ok(asked > 3), 30_000);
    assert.ok(!isCaptured(pod));
    assert.deepEqual(await world.events(world.meshed), []);
    missing = undefined;
    await says(world, world.meshed, 'web', ENROLLED);
    assert.ok(isCaptured(pod));
  });

  it('of dual stack is recognised by either address', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    await world.start();
    const pod = await world.addNetns('web');
    await world.createObject(world.meshed, 'web');
    await world.setStatus(world.meshed, 'web', 'Running', ['10.99.99.99', pod.address6]);
    await says(world, world.meshed, 'web', ENROLLED);
  });

  it('waits until it has an address', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { source } = await world.start();
    const pod = await world.addPod(world.meshed, 'web', { ips: [], phase: 'Pending' });
    await eventually('the pod is known', () => assert.ok(source.directory.findPod(world.meshed, 'web')));
    assert.equal(await world.statusOf(world.meshed, 'web'), NOTHING);
    await world.setStatus(world.meshed, 'web', 'Running', [pod.address]);
    await says(world, world.meshed, 'web', ENROLLED);
  });

  it('keeps its place while its address vanishes from the API and comes back', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { capture, source } = await world.start();
    const pod = await world.addPod(world.meshed, 'web');
    await says(world, world.meshed, 'web', ENROLLED);
    const rules = rulesOf(pod);
    await world.setStatus(world.meshed, 'web', 'Running', []);
    await eventually('no address', () => assert.deepEqual(source.directory.findPod(world.meshed, 'web')?.ips, []));
    await world.setStatus(world.meshed, 'web', 'Running', [pod.address]);
    await eventually('an address', () => assert.ok(source.directory.findPod(world.meshed, 'web')?.ips.length));
    assert.deepEqual([rulesOf(pod), capture.calls.length], [rules, 1]);
  });

  it('that uses the network of the node is not captured, and says so', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    await world.start();
    await world.createObject(world.meshed, 'node-agent', { spec: { hostNetwork: true } });
    await says(world, world.meshed, 'node-agent', 'none; False HostNetwork');
    assert.match(await world.messageOf(world.meshed, 'node-agent'), /network of its node/);
  });

  it('with an injected sidecar is not captured, and says so', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    await world.start();
    const annotations = { 'sidecar.istio.io/status': '{}' };
    const pod = await world.addPod(world.meshed, 'web', { annotations });
    await says(world, world.meshed, 'web', 'none; False Sidecar');
    assert.equal(rulesOf(pod), '');
  });

  it('in an excluded namespace is not captured, whatever its labels', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const eligibility = await excluding(world.meshed);
    const pod = await world.addPod(world.meshed, 'web', { labels: { 'istio.io/dataplane-mode': 'ambient' } });
    await world.start({ eligibility });
    await says(world, world.meshed, 'web', 'none; False ExcludedNamespace');
    assert.equal(rulesOf(pod), '');
  });

  it('leaves when a new configuration excludes its namespace', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const pod = await world.addPod(world.meshed, 'web');
    const other = await world.addPod(world.plain, 'other', { labels: { 'istio.io/dataplane-mode': 'ambient' } });
    await world.start();
    await says(world, world.meshed, 'web', ENROLLED);
    await says(world, world.plain, 'other', ENROLLED);
    await world.stop();
    await world.start({ eligibility: await excluding(world.meshed) });
    await says(world, world.meshed, 'web', 'none; False ExcludedNamespace');
    await eventually('nothing of ours is left', () => assert.equal(rulesOf(pod), ''));
    assert.ok(isCaptured(other), 'pods of other namespaces stay');
  });
});

describe('a pod whose life ends', () => {
  it('is let go when its containers have ended, and never captured again', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { service } = await world.start();
    const pod = await world.addPod(world.meshed, 'job');
    await says(world, world.meshed, 'job', ENROLLED);
    await world.setStatus(world.meshed, 'job', 'Succeeded', []);
    await says(world, world.meshed, 'job', NOTHING);
    await eventually('nothing of ours is left', () => assert.equal(rulesOf(pod), ''));
    await world.setStatus(world.meshed, 'job', 'Succeeded', [pod.address]);
    await world.label(`namespaces/${world.meshed}`, { touched: 'yes' });
    assert.deepEqual(service.list(), []);
  });

  it('is not taken up by an agent that starts after its end', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const pod = await world.addPod(world.meshed, 'job', { phase: 'Failed' });
    const running = await world.addPod(world.meshed, 'web');
    await world.start();
    await says(world, world.meshed, 'web', ENROLLED);
    assert.deepEqual([isCaptured(pod), isCaptured(running)], [false, true]);
  });

  it('stays captured while its object is deleted by force, until its namespace ends', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { service, source } = await world.start();
    const pod = await world.addPod(world.meshed, 'web');
    await says(world, world.meshed, 'web', ENROLLED);
    await world.deleteObject(world.meshed, 'web');
    await eventually('the deletion is known', () =>
      assert.equal(source.directory.findPod(world.meshed, 'web'), undefined),
    );
    assert.ok(isCaptured(pod));
    await pod.remove();
    await service.enrolment.sweep();
    assert.deepEqual(service.list(), []);
  });

  it('makes room for the next one of its name', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { service } = await world.start();
    const former = await world.addPod(world.meshed, 'web-0');
    await says(world, world.meshed, 'web-0', ENROLLED);
    await world.deleteObject(world.meshed, 'web-0');
    const uid = await world.createObject(world.meshed, 'web-0');
    const next = world.node.addPod('next');
    await world.mount(next, 'next');
    await world.setStatus(world.meshed, 'web-0', 'Running', [next.address]);
    await says(world, world.meshed, 'web-0', ENROLLED);
    assert.deepEqual([isCaptured(former), isCaptured(next)], [false, true]);
    assert.deepEqual(
      service.list().map(({ pod }) => pod.uid),
      [uid],
    );
  });
});

describe('what fails', () => {
  it('is tried again until it succeeds; the pod says why it waits', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const capture = new FailingCapture(Number.POSITIVE_INFINITY);
    const pod = await world.addPod(world.meshed, 'web');
    await world.start({}, capture);
    await says(world, world.meshed, 'web', PENDING);
    assert.match(await world.messageOf(world.meshed, 'web'), /the port is taken/);
    capture.failures = 0;
    await says(world, world.meshed, 'web', ENROLLED);
    assert.ok(isCaptured(pod));
    const events = await world.events(world.meshed);
    assert.ok(events.some((event) => event.startsWith('Warning web: Not captured yet')));
  });

  it('is told when no namespace of the pod can be found, and healed when one appears', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { service } = await world.start();
    await world.createObject(world.meshed, 'web');
    await world.setStatus(world.meshed, 'web', 'Running', ['10.77.1.10']);
    await says(world, world.meshed, 'web', PENDING);
    assert.match(service.problems().join(), /no network namespace with 10\.77\.1\.10 was found/);
    await world.addNetns('web');
    await says(world, world.meshed, 'web', ENROLLED);
    assert.deepEqual(service.problems(), []);
  });

  it('to be written to the API server is written when it is back, and enrolment goes on meanwhile', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { service, source } = await world.start();
    const uid = await world.createObject(world.meshed, 'web');
    const pod = await world.addNetns('web');
    await eventually('the pod is known', () => assert.ok(source.directory.findPod(world.meshed, 'web')));
    await api.stopServer();
    try {
      assert.equal((await service.enrolment.add(addRequest(pod, world.meshed, 'web', uid))).kind, 'done');
      assert.ok(isCaptured(pod));
    } finally {
      await api.startServer();
    }
    await says(world, world.meshed, 'web', ENROLLED);
  });
});

describe('an agent that takes the mesh off its node', () => {
  it('lets pods go although their labels ask for the mesh, and their marks go with them', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const pod = await world.addPod(world.meshed, 'web');
    const { service, source, enrolment } = await world.start({
      node: { hostNetns: world.node.path },
      leavingQuietMs: 60_000,
    });
    await says(world, world.meshed, 'web', ENROLLED);
    await service.quiesce();
    await enrolment.leave(`${world.meshed}/web`, 'the mesh is taken off the node');
    await enrolment.release(`${world.meshed}/web`);
    await removeHostRules(world.node.path);
    await source.settled(10_000);
    assert.equal(await world.statusOf(world.meshed, 'web'), NOTHING);
    await world.label(`namespaces/${world.meshed}`, { touched: 'yes' });
    await eventually('the change is known', () =>
      assert.equal(source.directory.findNamespace(world.meshed)?.labels.touched, 'yes'),
    );
    assert.deepEqual([enrolment.list(), rulesOf(pod), world.node.exec('nft', 'list', 'ruleset')], [[], '', '']);
  });
});

describe('the marks on a pod', () => {
  it('are written again when somebody removes them', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    await world.start();
    await world.addPod(world.meshed, 'web');
    await says(world, world.meshed, 'web', ENROLLED);
    await world.annotate(world.meshed, 'web', { 'ambient.istio.io/redirection': null });
    await says(world, world.meshed, 'web', ENROLLED);
  });

  it('of a pod that left while no agent ran are removed by the next one', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    await world.start();
    const pod = await world.addPod(world.meshed, 'web');
    await says(world, world.meshed, 'web', ENROLLED);
    await world.stop();
    await world.leaveMesh(world.meshed);
    await world.start();
    await says(world, world.meshed, 'web', NOTHING);
    await eventually('nothing of ours is left', () => assert.equal(rulesOf(pod), ''));
  });

  it('are not written again by an agent that restarts', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    await world.addPod(world.meshed, 'web');
    await world.start({ selfTest: true });
    await says(world, world.meshed, 'web', ENROLLED);
    await eventually('the self-test is told', async () =>
      assert.match(await world.messageOf(world.meshed, 'web'), /proved/),
    );
    const [version, events] = [await versionOf(world, 'web'), await world.events(world.meshed)];
    await world.stop();
    const { service, source } = await world.start({ selfTest: true });
    await eventually('the copy is there', () => assert.ok(source.directory.synced));
    await world.addPod(world.meshed, 'later');
    await says(world, world.meshed, 'later', ENROLLED);
    assert.equal(await versionOf(world, 'web'), version);
    assert.deepEqual(
      (await world.events(world.meshed)).filter((event) => event.includes(' web:')),
      events,
    );
    assert.equal(service.restored.restored, 1);
  });
});

describe('annotations', () => {
  it('that change apply to the running pod without another enrolment', async () => {
    await using world = await KubeEnrolmentWorld.create(api);
    const { capture } = await world.start();
    const pod = await world.addPod(world.meshed, 'gateway');
    await says(world, world.meshed, 'gateway', ENROLLED);
    assert.match(rulesOf(pod), /redirect to :15006/);
    await world.annotate(world.meshed, 'gateway', { 'ambient.istio.io/bypass-inbound-capture': 'true' });
    await eventually('inbound is not captured', () => assert.doesNotMatch(rulesOf(pod), /redirect to :15006/));
    assert.ok(isCaptured(pod));
    await world.annotate(world.meshed, 'gateway', { 'ambient.istio.io/bypass-inbound-capture': null });
    await eventually('inbound is captured', () => assert.match(rulesOf(pod), /redirect to :15006/));
    assert.equal(capture.calls.length, 1);
  });
});

async function excluding(namespace: string) {
  const { eligibilitySettings } = await import('../../core/enrolment/eligibility.ts');
  return eligibilitySettings([namespace]);
}

async function versionOf(world: KubeEnrolmentWorld, name: string): Promise<string> {
  const { metadata } = await api
    .admin()
    .get((await import('../../kube/resource.ts')).RESOURCES.Pod, world.meshed, name);
  return metadata.resourceVersion;
}

/** A data plane that cannot listen for a while. */
class FailingCapture extends StandInCapture {
  failures: number;

  constructor(failures: number) {
    super();
    this.failures = failures;
  }

  override async addPod(...args: Parameters<StandInCapture['addPod']>): Promise<void> {
    if (this.failures-- > 0) this.failNext = new AmbitError('SYSTEM_CALL', 'the port is taken');
    await super.addPod(...args);
  }
}
