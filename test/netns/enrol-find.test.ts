/**
 * The network namespace of a pod that runs already: where it is found, and everything that is refused although it looks
 * like the pod's.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { findPodNetns, type NetnsSources } from '../../agent/enrol/find-netns.ts';
import type { PodFacts } from '../../agent/enrol/pod-directory.ts';
import { identityOf } from '../../agent/enrol/pod-netns.ts';
import { SandboxStore } from '../../agent/enrol/sandbox-store.ts';
import { getIp } from '../../core/ip.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { EnrolmentWorld, requestFor } from '../support/enrolment.ts';
import type { TestPod } from '../support/netns.ts';

const UID_A = '11111111-2222-3333-4444-555555555555';
const UID_B = '99999999-2222-3333-4444-555555555555';

async function sourcesOf(world: EnrolmentWorld, changes: Partial<NetnsSources> = {}): Promise<NetnsSources> {
  return {
    sandboxes: await SandboxStore.open(world.runDirectory),
    directories: [],
    hostProc: undefined,
    hostNetns: undefined,
    findHolder: () => undefined,
    ...changes,
  };
}

function factsOf(pod: TestPod, uid = UID_A): PodFacts {
  const ips = [getIp(pod.address), getIp(pod.address6)];
  const [labels, annotations] = [{}, {}];
  const rest = { namespace: 'demo', nodeName: 'n', serviceAccount: 'default', hostNetwork: false };
  return { ...rest, name: pod.label, uid, labels, annotations, ips };
}

/** A folder with names for namespaces, as a runtime mounts them. */
function mountsOf(world: EnrolmentWorld, paths: Readonly<Record<string, string>>): string {
  const folder = join(world.runDirectory, 'mounts');
  mkdirSync(folder, { recursive: true });
  for (const [name, path] of Object.entries(paths)) symlinkSync(path, join(folder, name));
  return folder;
}

/** A /proc of a node whose process 1 is in the node's namespace. */
function procOf(world: EnrolmentWorld, processes: readonly { pod: TestPod; cgroup: string }[]): string {
  const folder = join(world.runDirectory, 'proc');
  const put = (pid: number, path: string, cgroup: string): void => {
    mkdirSync(join(folder, String(pid), 'ns'), { recursive: true });
    symlinkSync(path, join(folder, String(pid), 'ns', 'net'));
    writeFileSync(join(folder, String(pid), 'cgroup'), cgroup);
  };
  put(1, world.node.path, '0::/init.scope\n');
  for (const [index, { pod, cgroup }] of processes.entries()) put(100 + index, pod.path, cgroup);
  return folder;
}

describe('the namespace of a running pod', () => {
  it('is the one the runtime told of while the pod was not in the mesh, also after a restart of the agent', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('web', { namespace: 'plain', uid: UID_A });
    const request = requestFor(pod, { pod: { namespace: 'plain', name: 'web', uid: UID_A } });
    const { enrolment } = await world.open();
    assert.equal((await enrolment.add(request)).kind, 'ignored');
    await enrolment.close();
    const found = await findPodNetns(factsOf(pod), await sourcesOf(world));
    assert.deepEqual([found.path, found.attachment], [pod.path, request.attachment]);
    await (await world.open()).enrolment.del({ attachment: request.attachment, pod: undefined });
    await assert.rejects(findPodNetns(factsOf(pod), await sourcesOf(world)), /no network namespace/);
  });

  it('is recognised among the mounts by an address of the pod, of either family', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, other] = [world.addPod('web'), world.addPod('other')];
    const folder = mountsOf(world, {
      'cni-1': other.path,
      'cni-2': pod.path,
      'cni-3': '/dev/null',
      'cni-4': '/nowhere',
    });
    const sources = await sourcesOf(world, { directories: ['/nowhere', folder] });
    for (const ip of [pod.address, pod.address6]) {
      const found = await findPodNetns({ ...factsOf(pod), ips: [getIp(ip)] }, sources);
      assert.equal(found.path, join(folder, 'cni-2'));
    }
  });

  it('is looked for without keeping a descriptor of those that are not it', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, other] = [world.addPod('web'), world.addPod('other')];
    const folder = mountsOf(world, {
      'cni-1': other.path,
      'cni-2': pod.path,
      'cni-3': '/dev/null',
      'cni-4': '/nowhere',
    });
    const hostProc = procOf(world, [{ pod: other, cgroup: '0::/x' }]);
    const sources = await sourcesOf(world, { directories: [folder], hostProc, hostNetns: world.node.path });
    const stranger = { ...factsOf(pod), ips: [getIp('10.9.9.9')] };
    const look = async (): Promise<void> => {
      await findPodNetns(factsOf(pod), sources);
      await assert.rejects(findPodNetns(stranger, sources), /no network namespace/);
    };
    await look();
    const before = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < 5; round++) await look();
    assert.equal(readdirSync('/proc/self/fd').length, before);
  });

  it('is never that of the node, although it may hold the address', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('web');
    world.node.ip(`addr add ${pod.address}/32 dev lo`);
    const directories = [mountsOf(world, { node: world.node.path })];
    const sources = await sourcesOf(world, { directories, hostNetns: world.node.path });
    await assert.rejects(findPodNetns(factsOf(pod), sources), /no network namespace with 10\.77\.1\.10/);
  });

  it('is none when several hold the address: a pod that gave itself the address of another gains nothing', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, thief] = [world.addPod('web'), world.addPod('thief')];
    thief.ip(`addr add ${pod.address}/32 dev lo`);
    const directories = [mountsOf(world, { a: pod.path, b: thief.path })];
    const sources = await sourcesOf(world, { directories });
    await assert.rejects(findPodNetns(factsOf(pod), sources), /several network namespaces .* none is taken/);
    const held = NetworkNamespace.openPath(thief.path);
    const inode = String(held.inode);
    held.close();
    const findHolder: NetnsSources['findHolder'] = (netns) => (netns.inode === inode ? UID_B : undefined);
    const found = await findPodNetns(factsOf(pod), { ...sources, findHolder });
    assert.equal(found.path, join(directories[0] ?? '', 'a'), 'the thief is enrolled, so its namespace is known');
  });

  it('is never one the runtime announced for another pod', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, thief] = [world.addPod('web'), world.addPod('thief')];
    thief.ip(`addr add ${pod.address}/32 dev lo`);
    const sources = await sourcesOf(world, { directories: [mountsOf(world, { b: thief.path })] });
    const netns = NetworkNamespace.openPath(thief.path);
    await sources.sandboxes.save({
      uid: UID_B,
      namespace: 'demo',
      name: 'thief',
      attachment: { containerId: 'c', ifName: 'eth0' },
      netns: { path: thief.path, ...identityOf(netns) },
      ips: [getIp(thief.address)],
    });
    netns.close();
    await assert.rejects(findPodNetns(factsOf(pod), sources), /no network namespace/);
  });

  it('is found by the processes in it where no mount leads to it', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, other] = [world.addPod('web'), world.addPod('other')];
    const processes = [other, pod, pod].map((each) => ({ pod: each, cgroup: '' }));
    const sources = await sourcesOf(world, { hostProc: procOf(world, processes) });
    assert.match((await findPodNetns(factsOf(pod), sources)).path, /\/proc\/101\/ns\/net$/);
  });

  it('is that of the process in the cgroup of the pod when processes of several hold the address', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, thief] = [world.addPod('web'), world.addPod('thief')];
    thief.ip(`addr add ${pod.address}/32 dev lo`);
    const inPod = (uid: string) =>
      `0::/kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice/cri-containerd-ab.scope\n`;
    const hostProc = procOf(world, [
      { pod: thief, cgroup: inPod(UID_B) },
      { pod, cgroup: inPod(UID_A) },
    ]);
    const found = await findPodNetns(factsOf(pod), await sourcesOf(world, { hostProc }));
    assert.match(found.path, /\/proc\/101\/ns\/net$/);
  });

  it('that a nested container made inside the pod is not taken: it lacks the address', async () => {
    await using world = await EnrolmentWorld.create();
    const [pod, nested] = [world.addPod('web'), world.addPod('nested')];
    const cgroup = `0::/kubepods/pod${UID_A}/ab\n`;
    const hostProc = procOf(world, [
      { pod: nested, cgroup },
      { pod, cgroup },
    ]);
    const found = await findPodNetns(factsOf(pod), await sourcesOf(world, { hostProc }));
    assert.match(found.path, /\/proc\/101\/ns\/net$/);
  });
});
