/**
 * What the rules of a pod do to real connections. The agent is a stand-in that listens on the three ports and greets with
 * the port's number; where a connection ended is read off the greeting.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import { applyRules } from '../../agent/enrol/nft.ts';
import { buildRuleset } from '../../agent/enrol/rules.ts';
import { NO_OVERRIDES } from '../../core/enrolment/overrides.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { EnrolmentWorld, requestFor } from '../support/enrolment.ts';
import type { TestPod } from '../support/netns.ts';
import { dialAs } from '../support/stand-in-capture.ts';

const DEADLINE_MS = 5_000;

describe('captured traffic', () => {
  it('sends what the pod opens to 15001, over IPv4 and IPv6, whatever the address', async () => {
    await using world = await EnrolmentWorld.create();
    const client = world.addPod('client');
    const server = world.addPod('server');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(client));
    for (const host of [server.address, server.address6, '203.0.113.9', '169.254.169.254']) {
      assert.equal(await greetingOf(client, host, 8080), 'agent:15001', host);
    }
  });

  it('leaves a pod alone that calls itself', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    await (await pod.process()).listen(8080, 'echo');
    for (const host of ['127.0.0.1', '127.0.0.53', pod.address]) {
      assert.equal(await echoOf(pod, host, 8080), 'hello', host);
    }
  });

  it('sends plaintext from others to 15006 and lets HBONE through to its own listener', async () => {
    await using world = await EnrolmentWorld.create();
    const outsider = world.addPod('outsider');
    const pod = world.addPod('server');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    await (await pod.process()).listen(8080, 'echo');
    for (const host of [pod.address, pod.address6]) {
      assert.equal(await greetingOf(outsider, host, 8080), 'agent:15006', host);
      assert.equal(await greetingOf(outsider, host, 15001), 'agent:15006', `${host}: the outbound port is no way in`);
      assert.equal(await greetingOf(outsider, host, 15008), 'agent:15008', host);
    }
  });

  it('lets probes of the node through to the application', async () => {
    await using world = await EnrolmentWorld.create();
    const prober = world.addPod('prober');
    const pod = world.addPod('server');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    await (await pod.process()).listen(8080, 'echo');
    prober.ip('addr add 169.254.7.127/32 dev eth0');
    prober.ip(`route replace ${pod.address}/32 dev eth0 src 169.254.7.127`);
    pod.ip('route add 169.254.7.127/32 dev eth0');
    assert.equal(await echoOf(prober, pod.address, 8080), 'hello');
    prober.ip(`route replace ${pod.address}/32 dev eth0 src ${prober.address}`);
    assert.equal(await greetingOf(prober, pod.address, 8080), 'agent:15006', 'with any other source it is captured');
  });

  it('captures nothing inbound for a pod that asks for that, and still its outbound', async () => {
    await using world = await EnrolmentWorld.create();
    const outsider = world.addPod('outsider');
    const annotations = { 'ambient.istio.io/bypass-inbound-capture': 'true' };
    const pod = world.addPod('gateway', { annotations });
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    await (await pod.process()).listen(8080, 'echo');
    assert.equal(await echoOf(outsider, pod.address, 8080), 'hello');
    assert.equal(await greetingOf(pod, outsider.address, 8080), 'agent:15001');
  });

  it('stays captured without a gap while the rules are replaced', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const peer = world.addPod('peer');
    await (await peer.process()).listen(8080, 'echo');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    const netns = NetworkNamespace.openPath(pod.path);
    const held = await (await pod.process()).connect(peer.address, 8080);
    try {
      let replacing = true;
      const replaced = (async () => {
        for (let round = 0; round < 40; round++) await applyRules(netns, buildRuleset(NO_OVERRIDES));
        replacing = false;
      })();
      let connections = 0;
      for (; replacing; connections++) assert.equal(await greetingOf(pod, peer.address, 8080), 'agent:15001');
      await replaced;
      assert.ok(connections > 10, `${connections} connections`);
      assert.equal((await textOf(held, 'agent:15001\n'.length)).trim(), 'agent:15001');
      held.end();
      await once(held, 'end', { signal: AbortSignal.timeout(DEADLINE_MS) });
    } finally {
      held.destroy();
      netns.close();
    }
  });

  it('that is redirected already goes on when the rules are told to release', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const peer = world.addPod('peer');
    await (await peer.process()).listen(8080, 'echo');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    const held = await (await pod.process()).connect(peer.address, 8080);
    const netns = NetworkNamespace.openPath(pod.path);
    try {
      assert.equal((await textOf(held, 'agent:15001\n'.length)).trim(), 'agent:15001');
      await applyRules(netns, buildRuleset(NO_OVERRIDES, 'release'));
      assert.equal(await echoOf(pod, peer.address, 8080), 'hello', 'new connections go plain');
      held.end();
      await once(held, 'end', { signal: AbortSignal.timeout(DEADLINE_MS) });
    } finally {
      held.destroy();
      netns.close();
    }
  });

  it('treats what arrives on a virtual interface as outbound', async () => {
    await using world = await EnrolmentWorld.create();
    const annotations = { 'istio.io/reroute-virtual-interfaces': 'vm0' };
    const pod = world.addPod('host', { annotations });
    const guest = world.node.addPod('guest');
    pod.ip(`link add vm0 type veth peer name vm0 netns ${guest.name}`);
    pod.ip('addr add 192.0.2.1/24 dev vm0');
    pod.ip('link set vm0 up');
    guest.ip('link set eth0 down');
    guest.ip('addr add 192.0.2.2/24 dev vm0');
    guest.ip('link set vm0 up');
    guest.ip('route replace default via 192.0.2.1');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    assert.equal(await greetingOf(guest, '203.0.113.9', 443), 'agent:15001');
  });
});

describe('source preservation', () => {
  it('shows the application the address of the client, over IPv4 and IPv6', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('server');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    const application = await (await pod.process()).listen(8080, 'echo');
    const application6 = await (await pod.process()).listen(8086, 'echo', '::');
    const netns = NetworkNamespace.openPath(pod.path);
    try {
      for (const { from, to, port, seen } of [
        { from: '10.99.1.2', to: pod.address, port: 8080, seen: () => application.clients },
        { from: 'fd99::12', to: pod.address6, port: 8086, seen: () => application6.clients },
      ]) {
        const socket = await dialAs(netns, from, to, port);
        socket.write('hello');
        assert.equal(await textOf(socket, 5), 'hello', from);
        assert.deepEqual(seen(), [from]);
        socket.destroy();
      }
    } finally {
      netns.close();
    }
  });
});

describe('connections that stand before the rules', () => {
  it('survive enrolment and release, in both directions, while new ones are captured', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('pod');
    const peer = world.addPod('peer');
    await (await peer.process()).listen(8080, 'echo');
    await (await pod.process()).listen(9090, 'echo');
    const outbound = await (await pod.process()).connect(peer.address, 8080);
    const inbound = await (await peer.process()).connect(pod.address, 9090);
    const bothAnswer = async (when: string) => {
      for (const [name, socket] of Object.entries({ outbound, inbound })) {
        socket.write('hello');
        assert.equal(await textOf(socket, 5), 'hello', `${name} ${when}`);
      }
    };
    await bothAnswer('before');
    const { enrolment } = await world.open();
    await enrolment.add(requestFor(pod));
    await bothAnswer('while enrolled');
    assert.equal(await greetingOf(pod, peer.address, 8080), 'agent:15001');
    await enrolment.del({ attachment: requestFor(pod).attachment, pod: undefined });
    await bothAnswer('after release');
    assert.equal(await echoOf(pod, peer.address, 8080), 'hello');
    outbound.destroy();
    inbound.destroy();
  });

  it('are refused, not let out, when they start while no agent listens', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('pod');
    const peer = world.addPod('peer');
    await (await peer.process()).listen(8080, 'echo');
    const { enrolment, capture } = await world.open();
    await enrolment.add(requestFor(pod));
    await enrolment.close();
    await capture[Symbol.asyncDispose]();
    await assert.rejects(async () => (await pod.process()).connect(peer.address, 8080), /ECONNREFUSED/);
    const next = await world.open();
    await next.enrolment.restore();
    assert.equal(await greetingOf(pod, peer.address, 8080), 'agent:15001');
  });
});

async function greetingOf(pod: TestPod, host: string, port: number): Promise<string> {
  const socket = await (await pod.process()).connect(host, port);
  try {
    return (await textOf(socket, 'agent:15001\n'.length)).trim();
  } finally {
    socket.destroy();
  }
}

async function echoOf(pod: TestPod, host: string, port: number): Promise<string> {
  const socket = await (await pod.process()).connect(host, port);
  try {
    socket.write('hello');
    return await textOf(socket, 5);
  } finally {
    socket.destroy();
  }
}

/** The next `length` characters the peer sends. */
async function textOf(socket: Socket, length: number): Promise<string> {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  let text = '';
  while (text.length < length) {
    const chunk: unknown = socket.read();
    if (chunk === null) await once(socket, 'readable', { signal });
    else text += String(chunk);
  }
  return text;
}
