/**
 * Probes of kubelet pass the mesh, and nobody else does: the rules of the node against real connections, from the node's own
 * processes, from other pods and from another node that forge the source of probes.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { findHostRules, HostProbes, removeHostRules } from '../../agent/enrol/host-probes.ts';
import { getIp } from '../../core/ip.ts';
import { EnrolmentWorld, requestFor } from '../support/enrolment.ts';
import { eventually } from '../support/eventually.ts';
import type { TestNamespace, TestPod } from '../support/netns.ts';

const PROBE_V4 = '169.254.7.127';
const PROBE_V6 = 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff';
const KUBELET_USER = 0;
const OTHER_USER = 4711;

/** An enrolled pod with an application on 8080, which is probed, and on 9090, which is not. */
async function probedPod(world: EnrolmentWorld) {
  const probes = HostProbes.open({ hostNetns: world.node.path });
  const { enrolment } = await world.open({ probes });
  const pod = world.addPod('web', { probePorts: [8080] });
  await enrolment.add(requestFor(pod));
  const process = await pod.process();
  const [probed, other] = [await process.listen(8080, 'echo', '::'), await process.listen(9090, 'echo', '::')];
  return { pod, probes, enrolment, probed, other };
}

/** First line of what answers a process of the node: the echo of the application, or the agent's greeting. */
async function ask(from: TestNamespace, user: number, host: string, port: number): Promise<string> {
  const script = `exec 3<>/dev/tcp/${host}/${port}; echo hello >&3; head -n 1 <&3`;
  const entered = [`--net=${from.path}`, 'setpriv', `--reuid=${user}`, '--clear-groups'];
  // Not synchronously: the agent's greeting comes from this process.
  const { stdout } = await promisify(execFile)('nsenter', [...entered, 'timeout', '10', 'bash', '-c', script]);
  return stdout.trim();
}

describe('probes of kubelet', () => {
  it('reach the application on the ports that are probed, on both families, from an address nobody else has', async () => {
    await using world = await EnrolmentWorld.create();
    const { pod, probes, probed } = await probedPod(world);
    assert.equal(
      await ask(world.node, KUBELET_USER, pod.address, 8080),
      'agent:15006',
      'captured while no rules stand',
    );
    await probes.start();
    for (const host of [pod.address, pod.address6])
      assert.equal(await ask(world.node, KUBELET_USER, host, 8080), 'hello', host);
    assert.deepEqual(probed.clients, [`::ffff:${PROBE_V4}`, PROBE_V6]);
    await probes.close();
  });

  it('are told from everything else that the node sends to pods', async () => {
    await using world = await EnrolmentWorld.create();
    const { pod, probes, other } = await probedPod(world);
    const outside = world.node.addPod('outside');
    const plain = await (await outside.process()).listen(8080, 'echo');
    await probes.start();
    for (const host of [pod.address, pod.address6]) {
      assert.equal(await ask(world.node, KUBELET_USER, host, 9090), 'agent:15006', 'a port that no probe names');
      assert.equal(await ask(world.node, OTHER_USER, host, 8080), 'agent:15006', 'another user');
    }
    assert.equal(await ask(world.node, KUBELET_USER, outside.address, 8080), 'hello');
    assert.deepEqual([other.clients, plain.clients], [[], ['10.77.1.1']], 'a pod that is not enrolled sees the node');
    await probes.close();
  });

  it('are captured again when the pod has left', async () => {
    await using world = await EnrolmentWorld.create();
    const { pod, probes, enrolment } = await probedPod(world);
    await probes.start();
    await enrolment.release('demo/web');
    assert.equal(await ask(world.node, KUBELET_USER, pod.address, 8080), 'hello');
    assert.doesNotMatch(listing(world.node), /8080/);
    await probes.close();
  });
});

describe('a packet that arrives with the source of probes', () => {
  /** Packets with that source that came as far as the pod, by family. */
  function watch(pod: TestPod): () => number[] {
    pod.nft(`add table inet watch
add chain inet watch arriving { type filter hook prerouting priority -400; }
add rule inet watch arriving ip saddr ${PROBE_V4} counter
add rule inet watch arriving ip6 saddr ${PROBE_V6} counter`);
    return () => {
      const counters = pod.exec('nft', 'list', 'table', 'inet', 'watch').matchAll(/packets ([0-9]+)/g);
      return Array.from(counters, ([, count]) => Number(count));
    };
  }

  /** Tries to connect to the probed port from the forged addresses of both families. */
  function forge(from: TestNamespace, pod: TestPod): void {
    for (const [source, url] of [
      [PROBE_V4, `http://${pod.address}:8080/`],
      [PROBE_V6, `http://[${pod.address6}]:8080/`],
    ] as const) {
      try {
        from.exec('curl', '-s', '--interface', source, '--connect-timeout', '0.5', '--max-time', '0.7', url);
      } catch {
        // What arrived is looked up at the pod.
      }
    }
  }

  function giveForgedAddresses(to: TestNamespace): void {
    to.ip(`addr add ${PROBE_V4}/32 dev eth0`);
    to.ip(`addr add ${PROBE_V6}/128 dev eth0 nodad`);
  }

  for (const [what, whose] of [
    ['from a pod behind the same bridge', (world) => world.node.addPod('forger')],
    ['from a pod of another node', (world) => world.network.addNode().addPod('forger')],
    ['from another node', (world) => world.network.addNode()],
  ] as const satisfies readonly (readonly [string, (world: EnrolmentWorld) => TestNamespace])[]) {
    it(`${what} comes no further than the node`, async () => {
      await using world = await EnrolmentWorld.create();
      const { pod, probes, probed } = await probedPod(world);
      const forger = whose(world);
      giveForgedAddresses(forger);
      const arrived = watch(pod);
      // Repeated until neighbours know each other.
      await eventually('without the rules of the node it arrives', () => {
        forge(forger, pod);
        assert.ok(arrived().every((packets) => packets > 0));
      });
      await probes.start();
      const [before, reached] = [arrived(), probed.clients.length];
      forge(forger, pod);
      assert.deepEqual([arrived(), probed.clients.length], [before, reached]);
      for (const host of [pod.address, pod.address6])
        assert.equal(await ask(world.node, KUBELET_USER, host, 8080), 'hello');
      await probes.close();
    });
  }

  it('passes no pod on a port that is not probed, whatever the node lets through', async () => {
    await using world = await EnrolmentWorld.create();
    const { pod, probes, other } = await probedPod(world);
    const forger = world.node.addPod('forger');
    forger.ip(`addr add ${PROBE_V4}/32 dev eth0`);
    forger.ip(`route replace ${pod.address}/32 dev eth0 src ${PROBE_V4}`);
    pod.ip(`route add ${PROBE_V4}/32 dev eth0`);
    assert.equal(await ask(forger, KUBELET_USER, pod.address, 8080), 'hello', 'the rules of the node are missing');
    assert.equal(await ask(forger, KUBELET_USER, pod.address, 9090), 'agent:15006');
    assert.deepEqual(other.clients, []);
    await probes.close();
  });
});

describe('the rules of the node', () => {
  const [first, second] = [getIp('10.77.1.10'), getIp('fd77:1::10')];

  it('stand once, also after the next agent has started, and stay while none runs', async () => {
    await using world = await EnrolmentWorld.create();
    const former = HostProbes.open({ hostNetns: world.node.path });
    await former.exempt('uid-a', [first, second], [8080]);
    await former.start();
    const rules = listing(world.node);
    await former.close();
    assert.equal(listing(world.node), rules);
    const next = HostProbes.open({ hostNetns: world.node.path });
    await next.exempt('uid-a', [first, second], [8080]);
    assert.equal(listing(world.node), rules, 'not touched before the pods are taken up');
    await next.start();
    assert.equal(listing(world.node), rules);
    await next.close();
  });

  it('are put back when somebody removes or changes them', async () => {
    await using world = await EnrolmentWorld.create();
    const probes = HostProbes.open({ hostNetns: world.node.path });
    await probes.exempt('uid-a', [first], [8080]);
    await probes.start();
    const rules = listing(world.node);
    await probes.check();
    assert.equal(listing(world.node), rules);
    for (const change of ['flush ruleset', 'add element inet ambit-host probes-v4 { 10.0.0.1 . 22 }']) {
      world.node.nft(change);
      await probes.check();
      assert.equal(listing(world.node), rules, change);
    }
    await probes.close();
  });

  it('keep an address for the pod that has it now when its former holder goes', async () => {
    await using world = await EnrolmentWorld.create();
    const probes = HostProbes.open({ hostNetns: world.node.path });
    await probes.start();
    await probes.exempt('uid-former', [first], [8080]);
    await probes.exempt('uid-now', [first], [8080, 9090]);
    await probes.end('uid-former');
    const elements = listing(world.node);
    assert.match(elements, /10\.77\.1\.10 \. 8080 comment "uid-now"/);
    assert.match(elements, /10\.77\.1\.10 \. 9090 comment "uid-now"/);
    await probes.end('uid-now');
    assert.doesNotMatch(listing(world.node), /10\.77/);
    await probes.close();
  });

  it('go without a trace, and removing them again is fine', async () => {
    await using world = await EnrolmentWorld.create();
    world.node.nft('add table inet other');
    const probes = HostProbes.open({ hostNetns: world.node.path });
    await probes.exempt('uid-a', [first], [8080]);
    await probes.start();
    await probes.close();
    assert.equal(await findHostRules(world.node.path), true);
    await removeHostRules(world.node.path);
    assert.equal(await findHostRules(world.node.path), false);
    await removeHostRules(world.node.path);
    assert.equal(world.node.exec('nft', 'list', 'ruleset').trim(), 'table inet other {\n}');
  });
});

function listing(node: TestNamespace): string {
  return node.exec('nft', '-s', 'list', 'ruleset');
}
