/**
 * What a client of the control plane may rely on, as one list that every client runs against the same server: a raw one,
 * written from protocol facts alone, and the agent's own.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, type Resource } from '../../control/discovery/resource.ts';
import { eventually } from './eventually.ts';
import { agentToken, manyWorkloads, policy, workload, XdsServer } from './xds-server.ts';

/** A client that subscribed to everything of both types, and answers every response. */
export interface ConformanceClient {
  /** Resolves when it takes itself for synced. */
  readonly synced: Promise<void>;
  /** Resolves when the server has ended a stream of it with UNAUTHENTICATED. */
  readonly refused: Promise<void>;
  /** What it holds: name to version. */
  held(type: string): ReadonlyMap<string, string>;
  /** Names in the order in which they arrived or went (`-name`). */
  readonly heard: readonly string[];
  /** Bytes of resources received since it was opened or moved. */
  received(): number;
  /** Leaves its server and resumes at another one with what it holds. */
  moveTo(server: XdsServer): Promise<void>;
  close(): void;
}

export interface ConformanceSubject {
  readonly name: string;
  /** `token` undefined: none is sent. */
  open(context: TestContext, server: XdsServer, token: string | undefined): Promise<ConformanceClient>;
}

export interface Behaviour {
  readonly name: string;
  readonly run: (context: TestContext, subject: ConformanceSubject) => Promise<void>;
}

/** A resource that no client can read: its content is no message. */
function unreadable(name: string, version: string): Resource {
  return { ...workload(name), version, bytes: Uint8Array.of(255, 255, version.length) };
}

function versions(resources: readonly Resource[]): [string, string][] {
  return resources.map(({ name, version }): [string, string] => [name, version]).sort();
}

async function holds(client: ConformanceClient, type: string, resources: readonly Resource[]): Promise<void> {
  await eventually('the client holds what is served', () =>
    assert.deepEqual([...client.held(type)].sort(), versions(resources)),
  );
}

export const XDS_CONFORMANCE: readonly Behaviour[] = [
  {
    name: 'gets everything, then every change and every removal',
    run: async (context, subject) => {
      const server = await XdsServer.start(context);
      const [a, b, c] = [workload('a'), workload('b'), workload('c')];
      const p = policy('p');
      server.addresses([a, b]);
      server.policies([p]);
      const client = await subject.open(context, server, agentToken('node-a'));
      await client.synced;
      await holds(client, ADDRESS_TYPE, [a, b]);
      await holds(client, AUTHORIZATION_TYPE, [p]);
      const changed = workload('b', { serviceAccount: 'other' });
      server.addresses([changed, c], ['a']);
      await holds(client, ADDRESS_TYPE, [changed, c]);
    },
  },
  {
    name: 'is synced although there is nothing',
    run: async (context, subject) => {
      const server = await XdsServer.start(context);
      const client = await subject.open(context, server, agentToken('node-a'));
      await client.synced;
      assert.equal(client.held(ADDRESS_TYPE).size, 0);
    },
  },
  {
    name: 'is synced with the last part of a large answer and not before',
    run: async (context, subject) => {
      const limits = { reader: { responseBytes: 2000, stepEntries: 100 } };
      const server = await XdsServer.start(context, { limits });
      const [pods, policies] = [manyWorkloads(300), Array.from({ length: 100 }, (_, index) => policy(`p${index}`))];
      server.addresses(pods);
      server.policies(policies);
      const client = await subject.open(context, server, agentToken('node-a'));
      await client.synced;
      assert.deepEqual([...client.held(ADDRESS_TYPE)].sort(), versions(pods));
      assert.deepEqual([...client.held(AUTHORIZATION_TYPE)].sort(), versions(policies));
      await eventually('the server knows that the client is synced', () => {
        const [state] = server.discovery.clients();
        assert.deepEqual(
          state?.types.map(({ synced, behind }) => [synced, behind]),
          [
            [true, 0],
            [true, 0],
          ],
        );
        assert.ok((state?.types[1]?.responses ?? 0) > 10);
      });
    },
  },
  {
    name: 'moves to another replica and gets only what differs there',
    run: async (context, subject) => {
      const pods = manyWorkloads(500);
      const first = await XdsServer.start(context, { replica: 'one' });
      const second = await XdsServer.start(context, { replica: 'two', root: first.root });
      first.addresses([...pods, workload('gone')]);
      const moved = workload('Kubernetes//Pod/shop/pod-7', { serviceAccount: 'other' });
      const added = workload('new');
      const now = [...pods.filter(({ name }) => name !== moved.name), moved, added];
      // The order in which a replica has learnt of things does not matter.
      second.addresses(now.toReversed());
      const client = await subject.open(context, first, agentToken('node-a'));
      await client.synced;
      await client.moveTo(second);
      await holds(client, ADDRESS_TYPE, now);
      assert.ok(client.received() < 1000, `${client.received()} bytes were sent again`);
    },
  },
  {
    name: 'moves to another replica and gets nothing when nothing differs',
    run: async (context, subject) => {
      const pods = manyWorkloads(500);
      const first = await XdsServer.start(context);
      const second = await XdsServer.start(context, { root: first.root });
      first.addresses(pods);
      second.addresses(pods);
      const client = await subject.open(context, first, agentToken('node-a'));
      await client.synced;
      await client.moveTo(second);
      await eventually('the second replica knows that it is synced', () =>
        assert.deepEqual(
          second.discovery.clients()[0]?.types.map(({ synced, resources }) => [synced, resources]),
          [
            [true, 0],
            [true, 0],
          ],
        ),
      );
      await holds(client, ADDRESS_TYPE, pods);
      assert.equal(client.received(), 0);
    },
  },
  {
    name: 'refuses what it cannot read, keeps the rest and what it had, and takes the next version',
    run: async (context, subject) => {
      const server = await XdsServer.start(context);
      const [a, good] = [workload('a'), workload('b')];
      server.addresses([a, good]);
      const client = await subject.open(context, server, agentToken('node-a'));
      await client.synced;
      const changed = workload('a', { serviceAccount: 'other' });
      server.addresses([unreadable('b', 'broken'), changed]);
      await holds(client, ADDRESS_TYPE, [changed, good]);
      await eventually('the refusal is known, and so is its reason', () => {
        const state = server.discovery.clients()[0]?.types.find(({ type }) => type === ADDRESS_TYPE);
        assert.match(state?.lastNack?.reason ?? '', /^b: /);
        assert.ok(state?.synced);
      });
      const mended = workload('b', { serviceAccount: 'mended' });
      server.addresses([mended]);
      await holds(client, ADDRESS_TYPE, [changed, mended]);
    },
  },
  {
    name: 'hears of a policy before the workload that names it, and of its removal after the workload let go',
    run: async (context, subject) => {
      const server = await XdsServer.start(context);
      const client = await subject.open(context, server, agentToken('node-a'));
      await client.synced;
      const named = workload('a', { authorizationPolicies: ['shop/p'] });
      server.discovery.publish([
        { type: ADDRESS_TYPE, name: 'a', resource: named },
        { type: AUTHORIZATION_TYPE, name: 'shop/p', resource: policy('p') },
      ]);
      await eventually('both are there', () => assert.deepEqual(client.heard, ['shop/p', 'a']));
      server.discovery.publish([
        { type: AUTHORIZATION_TYPE, name: 'shop/p', resource: undefined },
        { type: ADDRESS_TYPE, name: 'a', resource: workload('a') },
      ]);
      await eventually('both are told', () => assert.deepEqual(client.heard.slice(2), ['a', '-shop/p']));
    },
  },
  {
    name: 'gets nothing without a proof of who it is',
    run: async (context, subject) => {
      const server = await XdsServer.start(context);
      server.addresses([workload('a')]);
      for (const token of [undefined, 'nonsense']) {
        const client = await subject.open(context, server, token);
        await client.refused;
        assert.deepEqual([server.discovery.clients(), client.held(ADDRESS_TYPE).size], [[], 0]);
        client.close();
      }
    },
  },
  {
    name: 'is sent away by a replica that stops, and resumes at another one',
    run: async (context, subject) => {
      const first = await XdsServer.start(context);
      const second = await XdsServer.start(context, { root: first.root });
      const [a, b] = [workload('a'), workload('b')];
      first.addresses([a]);
      second.addresses([a, b]);
      const client = await subject.open(context, first, agentToken('node-a'));
      await client.synced;
      await first.discovery.drain(50);
      await holds(client, ADDRESS_TYPE, [a]);
      await client.moveTo(second);
      await holds(client, ADDRESS_TYPE, [a, b]);
    },
  },
];
