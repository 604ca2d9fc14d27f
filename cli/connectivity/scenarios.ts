/**
 * What `ambit test connectivity` tries, in this order: later ones build on the policies of earlier ones. Each says what it
 * found in words, also when it is content; a scenario that cannot be tried here says why.
 */
import { decode, list, object, optional, string, withDefault } from '../../core/decoder.ts';
import { ADMIN_PORT } from '../../core/ports.ts';
import { RESOURCES } from '../../kube/resource.ts';
import type { AgentPod, ReadPage } from '../agents.ts';
import { conditionOf } from '../check/fields.ts';
import { formatDuration } from '../output.ts';
import { APP_PORT, authorizationPolicy, POLICY_NAME, peerAuthentication } from './objects.ts';
import { type Call, restartsOf, type TestBed } from './test-bed.ts';

export interface ScenarioWorld {
  readonly bed: TestBed;
  readonly agents: readonly AgentPod[];
  readonly read: ReadPage;
}

export interface Outcome {
  readonly level: 'ok' | 'failed' | 'skipped';
  readonly text: string;
}

export interface Scenario {
  /** Stable. */
  readonly id: string;
  readonly about: string;
  run(world: ScenarioWorld): Promise<Outcome>;
}

const CALLS = 10;
/** A policy is in force on every node within this. */
const SETTLE_MS = 20_000;
const LOOK_INTERVAL_MS = 250;
/** Calls in a row that have to end the same way. */
const CERTAIN = 3;

const TARGETS = ['same', 'cross'] as const;
const WHERE = { same: 'on the same node', cross: 'on another node' } as const;

export const SCENARIOS: readonly Scenario[] = [
  ...TARGETS.flatMap((where): Scenario[] => [
    {
      id: `${where}.pod`,
      about: `a pod ${WHERE[where]}, by its address`,
      run: (world) => reach(world, where, `http://${host(world.bed.ipOf(`echo-${where}`))}:${APP_PORT}`),
    },
    {
      id: `${where}.service`,
      about: `a service ${WHERE[where]}, by its name`,
      run: (world) => reach(world, where, `http://echo-${where}.${world.bed.plan.namespace}.svc`),
    },
    {
      id: `${where}.identity`,
      about: `mutual TLS with the right identity, ${WHERE[where]}, as the agent of the server recorded it`,
      run: (world) => proveIdentity(world, where),
    },
  ]),
  {
    id: 'outside.permissive',
    about: 'a client outside the mesh is let in where plaintext is allowed',
    run: async (world) => {
      await world.bed.apply(peerAuthentication(world.bed.plan.namespace, 'PERMISSIVE'));
      return await expectAll(world, [['outside', 'same', true]]);
    },
  },
  {
    id: 'outside.strict',
    about: 'a client outside the mesh is refused under STRICT, one of the mesh is not',
    run: async (world) => {
      await world.bed.apply(peerAuthentication(world.bed.plan.namespace, 'STRICT'));
      return await expectAll(world, [...both('outside', false), ...both('client', true)]);
    },
  },
  {
    id: 'policy.allow',
    about: 'an ALLOW policy lets its client in and nobody else',
    run: async (world) => {
      await world.bed.apply(authorizationPolicy(world.bed.plan.namespace, 'ALLOW'));
      return await expectAll(world, [...both('other', false), ...both('client', true)]);
    },
  },
  {
    id: 'policy.deny',
    about: 'a DENY policy refuses its client and nobody else',
    run: async (world) => {
      await world.bed.apply(authorizationPolicy(world.bed.plan.namespace, 'DENY'));
      return await expectAll(world, [...both('client', false), ...both('other', true)]);
    },
  },
  {
    id: 'policy.removed',
    about: 'without policies everybody is let in again',
    run: async (world) => {
      await world.bed.delete(RESOURCES.AuthorizationPolicy, POLICY_NAME);
      return await expectAll(world, [...both('client', true), ...both('other', true)]);
    },
  },
  {
    id: 'probes',
    about: 'probes of the kubelet passed all the while, under STRICT and under every policy',
    run: async ({ bed }) => {
      const pods = await bed.pods();
      const bad = pods.filter((pod) => conditionOf(pod, 'Ready') !== 'True' || restartsOf(pod) > 0);
      if (bad.length === 0) return { level: 'ok', text: `${pods.length} pods ready, none restarted` };
      return {
        level: 'failed',
        text: `not ready or restarted: ${bad.map(({ metadata }) => metadata.name).join(', ')}`,
      };
    },
  },
];

type Where = (typeof TARGETS)[number];
/** Client, server, and whether it gets through. */
type Expectation = readonly [client: string, where: Where, through: boolean];

function both(client: string, through: boolean): Expectation[] {
  return TARGETS.map((where) => [client, where, through]);
}

function hasTarget({ bed }: ScenarioWorld, where: Where): boolean {
  return bed.plan.pods.some(({ name }) => name === `echo-${where}`);
}

const NO_OTHER_NODE: Outcome = { level: 'skipped', text: 'there is one node only that takes pods' };

async function reach(world: ScenarioWorld, where: Where, url: string): Promise<Outcome> {
  if (!hasTarget(world, where)) return NO_OTHER_NODE;
  const { bed } = world;
  // The first call may come before everybody has heard of the new pods.
  await settle(async () => through(await bed.call('client', url), true));
  const calls = await bed.call('client', url, CALLS);
  return judgeCalls(calls, `echo-${where}`, bed.ipOf('client'));
}

/** Every call answered, by the right pod, which saw the client's own address. */
export function judgeCalls(calls: readonly Call[], server: string, client: string): Outcome {
  const failed = calls.filter(({ ok }) => !ok);
  const [first] = failed;
  if (first !== undefined)
    return { level: 'failed', text: `${failed.length} of ${calls.length} failed: ${first.detail}` };
  const wrong = calls.find((call) => call.server !== server);
  if (wrong !== undefined)
    return { level: 'failed', text: `answered by ${wrong.server ?? 'somebody'}, not by ${server}` };
  const foreign = calls.find((call) => call.peer !== client);
  if (foreign !== undefined)
    return { level: 'failed', text: `the server saw ${foreign.peer ?? 'no address'}, not the client's ${client}` };
  const times = calls.map(({ ms }) => ms).sort((a, b) => a - b);
  const middle = times[Math.floor(times.length / 2)] ?? 0;
  return { level: 'ok', text: `${calls.length} of ${calls.length}, half of them within ${middle.toFixed(1)} ms` };
}

async function expectAll(world: ScenarioWorld, expected: readonly Expectation[]): Promise<Outcome> {
  const { bed } = world;
  const wanted = expected.filter(([, where]) => hasTarget(world, where));
  const startedMs = performance.now();
  const wrong = await settle(async () => {
    for (const [client, where, passes] of wanted) {
      const calls = await bed.call(client, `http://${host(bed.ipOf(`echo-${where}`))}:${APP_PORT}`, CERTAIN);
      const problem = through(calls, passes);
      if (problem !== undefined) return `${client} to echo-${where}: ${problem}`;
    }
    return undefined;
  });
  if (wrong !== undefined) return { level: 'failed', text: wrong };
  const words = wanted.map(
    ([client, where, passes]) => `${client} ${passes ? 'reaches' : 'does not reach'} echo-${where}`,
  );
  return { level: 'ok', text: `${words.join(', ')} (in force after ${formatDuration(performance.now() - startedMs)})` };
}

/** Undefined when all calls ended as wanted. A call that is refused ends at once: one that hangs was not refused, it was lost. */
export function through(calls: readonly Call[], passes: boolean): string | undefined {
  const answered = calls.filter(({ ok }) => ok).length;
  if (passes) {
    const failure = calls.find(({ ok }) => !ok);
    return failure === undefined
      ? undefined
      : `${calls.length - answered} of ${calls.length} failed: ${failure.detail}`;
  }
  if (answered > 0) return `${answered} of ${calls.length} got through, none should`;
  const lost = calls.find(({ detail }) => detail === 'timed out');
  return lost === undefined ? undefined : 'not refused, but lost: no answer in time';
}

/** Repeats until `look` has nothing to complain about; its last complaint otherwise. */
async function settle(look: () => Promise<string | undefined>): Promise<string | undefined> {
  const endMs = performance.now() + SETTLE_MS;
  for (;;) {
    const complaint = await look();
    if (complaint === undefined || performance.now() > endMs) return complaint;
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
}

const connections = list(
  object(
    {
      direction: withDefault(string, ''),
      path: withDefault(string, ''),
      sourceIdentity: optional(string),
      sourceWorkload: optional(string),
      sourceNamespace: optional(string),
      destinationWorkload: optional(string),
      destinationNamespace: optional(string),
    },
    'ignore',
  ),
);

/** With a stream held open, the agent of the server's node tells how it came in. */
async function proveIdentity(world: ScenarioWorld, where: Where): Promise<Outcome> {
  if (!hasTarget(world, where)) return NO_OTHER_NODE;
  const { bed, agents, read } = world;
  const server = `echo-${where}`;
  const node = bed.plan.pods.find(({ name }) => name === server)?.node;
  const agent = agents.find((one) => one.node === node);
  if (agent === undefined) return { level: 'failed', text: `no agent runs on ${node}` };
  const state = await bed.hold('client', `http://${host(bed.ipOf(server))}:${APP_PORT}`);
  if (state !== 'open') return { level: 'failed', text: `the stream could not be opened: ${state}` };
  try {
    const decoded = decode(connections, await read(agent.namespace, agent.name, ADMIN_PORT, '/connections'));
    if (!decoded.ok) return { level: 'failed', text: `the agent of ${node} gave no list of connections` };
    return judgeRecords(decoded.value, { namespace: bed.plan.namespace, server, where });
  } finally {
    await bed.release('client');
  }
}

export interface ConnectionRecord {
  readonly direction: string;
  readonly path: string;
  readonly sourceIdentity: string | undefined;
  readonly sourceWorkload: string | undefined;
  readonly sourceNamespace: string | undefined;
  readonly destinationWorkload: string | undefined;
  readonly destinationNamespace: string | undefined;
}

/** Between nodes it is a tunnel; within one the agent may carry it in memory, with both identities proved by certificates. */
export function judgeRecords(
  records: readonly ConnectionRecord[],
  { namespace, server, where }: { readonly namespace: string; readonly server: string; readonly where: Where },
): Outcome {
  const record = records.find(
    (one) =>
      one.direction === 'inbound' &&
      one.destinationNamespace === namespace &&
      one.destinationWorkload === server &&
      one.sourceWorkload === 'client',
  );
  if (record === undefined)
    return { level: 'failed', text: `the agent has no record of a connection from client to ${server}` };
  const { path, sourceIdentity = 'none' } = record;
  if (path !== 'hbone' && !(where === 'same' && path === 'same-node'))
    return { level: 'failed', text: `the connection came as ${path}, with identity ${sourceIdentity}` };
  if (!new RegExp(`^spiffe://[^/]+/ns/${namespace}/sa/client$`).test(sourceIdentity))
    return { level: 'failed', text: `the identity of the client is ${sourceIdentity}` };
  const how = path === 'hbone' ? 'tunnel with mutual TLS' : 'within the node, nothing on the wire';
  return { level: 'ok', text: `${how}, as ${sourceIdentity}` };
}

/** As it stands in a URL. */
function host(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}
