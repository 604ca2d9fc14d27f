/**
 * The steps that bring one pod into the mesh and out of it again, each undone when a later one fails.
 *
 *     in    namespace proved -> listeners and routing -> probes exempt -> rules, read back -> state on disk
 *     leave new connections go plain; listeners stay for those that stand (and in again, if the pod comes back)
 *     out   new connections go plain -> listeners and connections end -> rules -> routing -> probes -> state on disk
 *
 * So a captured packet always finds a listener, and nothing of ours stays in a pod that was let go. Not here: which pods, and
 * one at a time per pod (enrolment.ts).
 */
import type { Attachment } from '../../core/enrolment/cni-wire.ts';
import type { TrafficOverrides } from '../../core/enrolment/overrides.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import type { IpAddress } from '../../core/ip.ts';
import { logger } from '../../core/log.ts';
import type { NetworkNamespace } from '../../reactor/netns.ts';
import type { EnrolledPod, PodCapture } from '../dataplane/pod-capture.ts';
import type { NetnsClaims } from './netns-claims.ts';
import { applyRules, checkRules, removeRules } from './nft.ts';
import {
  countCarried,
  findForeignBeforeListening,
  findForeignListeners,
  findMissingListeners,
  identityOf,
  type NetnsIdentity,
  type NodeView,
  openPodNetns,
  pathStillLeadsTo,
} from './pod-netns.ts';
import { PodRouting } from './pod-routing.ts';
import type { PodStore } from './pod-store.ts';
import { buildRuleset } from './rules.ts';
import { STORED_POD_VERSION, type StoredPod } from './stored-pod.ts';

const log = logger('enrol');

/** What the steps work with; the same for every pod. */
export interface StepTools {
  readonly capture: PodCapture;
  readonly store: PodStore;
  readonly claims: NetnsClaims;
  readonly probes: ProbeExemptions;
  readonly node: NodeView;
}

/** Kubelet's probes pass the node unjudged; the host rules see to that (host-rules.ts). */
export interface ProbeExemptions {
  /** Resolves when the rules of the node stand. Never rejects: a pod without exemption is probed through the mesh. */
  exempt(uid: string, ips: readonly IpAddress[], ports: readonly number[] | undefined): Promise<void>;
  end(uid: string): Promise<void>;
}

export const NO_EXEMPTIONS: ProbeExemptions = { exempt: async () => undefined, end: async () => undefined };

export interface CaptureOrder {
  readonly pod: EnrolledPod;
  readonly attachment: Attachment | undefined;
  readonly netns: { readonly path: string; readonly expected?: NetnsIdentity };
  readonly overrides: TrafficOverrides;
  /** Undefined when nobody knows. */
  readonly probePorts: readonly number[] | undefined;
  /** True when the pod runs: kubelet may be probing it already. */
  readonly running: boolean;
}

/** A pod that is in: the namespace stays open, and claimed, until `abandon`, which touches nothing inside it. */
export interface CapturedPod {
  readonly stored: StoredPod;
  readonly netns: NetworkNamespace;
  readonly abandon: () => void;
}

/** Brings a pod in. Rejects with an AmbitError after everything was undone. */
export async function capturePod(tools: StepTools, order: CaptureOrder): Promise<CapturedPod> {
  const { pod, overrides, probePorts } = order;
  await using undo = new AsyncDisposableStack();
  const { netns, abandon } = await takeNetns(tools, pod, order.netns.path, order.netns.expected);
  undo.defer(abandon);
  refuseForeignListeners(netns);
  undo.defer(undoing('stop listening', () => tools.capture.removePod(pod.uid)));
  undo.defer(undoing('remove routing', () => withRouting(netns, (routing) => routing.remove())));
  undo.defer(() => tools.probes.end(pod.uid));
  const exempted = tools.probes.exempt(pod.uid, pod.ips, probePorts);
  await allSettled([
    tools.capture.addPod(pod, netns.fd),
    withRouting(netns, (routing) => routing.ensure()),
    ...(order.running ? [exempted] : []),
  ]);
  undo.defer(undoing('remove rules', () => removeRules(netns)));
  const rules = await applyRules(netns, buildRuleset(overrides, 'capture', probePorts));
  const stored: StoredPod = {
    version: STORED_POD_VERSION,
    pod,
    attachment: order.attachment,
    netns: { path: order.netns.path, ...identityOf(netns) },
    overrides,
    rules,
    probePorts,
    leaving: false,
    enrolledAt: new Date().toISOString(),
  };
  undo.defer(undoing('forget the pod', () => tools.store.remove(pod.uid)));
  await tools.store.save(stored);
  undo.move();
  return { stored, netns, abandon };
}

/**
 * Takes up a pod of a former run: the namespace must be the recorded one. Rules and routing are left alone when they
 * stand as recorded and are repaired otherwise. Rejects when the pod cannot be taken up; its rules stay in place then,
 * so that it fails closed until somebody releases it.
 */
export async function recapturePod(tools: StepTools, stored: StoredPod): Promise<CapturedPod> {
  await using undo = new AsyncDisposableStack();
  const { netns, abandon } = await takeNetns(tools, stored.pod, stored.netns.path, stored.netns);
  undo.defer(abandon);
  refuseForeignListeners(netns);
  undo.defer(undoing('stop listening', () => tools.capture.removePod(stored.pod.uid)));
  await tools.capture.addPod(stored.pod, netns.fd);
  await tools.probes.exempt(stored.pod.uid, stored.pod.ips, stored.probePorts);
  const current = await repair(tools, stored, netns);
  undo.move();
  return { stored: current, netns, abandon };
}

/** Puts rules and routing back as they belong and returns what is recorded now; does nothing when they stand. */
async function repair(tools: StepTools, stored: StoredPod, netns: NetworkNamespace): Promise<StoredPod> {
  await withRouting(netns, (routing) => routing.ensure());
  const ruleset = buildRuleset(stored.overrides, 'capture', stored.probePorts);
  const drift = await checkRules(netns, ruleset, stored.rules);
  if (drift.length === 0) return stored;
  log.warn({ pod: podName(stored), drift }, 'the rules of a pod had changed and are put back');
  const repaired = { ...stored, rules: await applyRules(netns, ruleset) };
  await tools.store.save(repaired);
  return repaired;
}

/** Puts rules for other overrides in the place of those that stand, in one transaction; no connection notices. */
export async function reapplyRules(
  tools: StepTools,
  captured: CapturedPod,
  overrides: TrafficOverrides,
): Promise<CapturedPod> {
  const rules = await applyRules(captured.netns, buildRuleset(overrides, 'capture', captured.stored.probePorts));
  const stored = { ...captured.stored, overrides, rules, leaving: false };
  await tools.store.save(stored);
  return { ...captured, stored };
}

/** From now on new connections of the pod are plain; listeners stay, and what they carry goes on. */
export async function startLeaving(tools: StepTools, captured: CapturedPod): Promise<CapturedPod> {
  const { stored, netns } = captured;
  tools.capture.setLeaving(stored.pod.uid, true);
  const rules = await applyRules(netns, buildRuleset(stored.overrides, 'release'));
  const left = { ...stored, rules, leaving: true };
  await tools.store.save(left);
  await tools.probes.end(stored.pod.uid);
  return { ...captured, stored: left };
}

/**
 * A pod that was leaving when a former agent ended. Undefined when none of its connections is left, and then nothing of
 * ours is; otherwise another process still carries them (an agent that hands over), and rules stay until they end.
 */
export async function resumeLeaving(tools: StepTools, stored: StoredPod): Promise<CapturedPod | undefined> {
  const taken = await takeNetns(tools, stored.pod, stored.netns.path, stored.netns);
  if (countCarried(taken.netns) > 0) return { stored, ...taken };
  taken.abandon();
  await dropPod(tools, stored);
  return undefined;
}

/** A pod that was leaving is captured again. */
export async function stopLeaving(
  tools: StepTools,
  captured: CapturedPod,
  overrides: TrafficOverrides,
): Promise<CapturedPod> {
  const { pod, probePorts } = captured.stored;
  // After a restart nobody listens in a pod that was leaving already.
  if (!(await tools.capture.isListening(pod.uid))) await tools.capture.addPod(pod, captured.netns.fd);
  await tools.probes.exempt(pod.uid, pod.ips, probePorts);
  const back = await reapplyRules(tools, captured, overrides);
  tools.capture.setLeaving(pod.uid, false);
  return back;
}

/**
 * Lets a pod go. A namespace whose last process and name are gone is only forgotten: its rules went with it. Steps that
 * fail do not stop the following ones; the first failure is thrown at the end, after the state was removed.
 */
export async function releasePod(tools: StepTools, { stored, netns, abandon }: CapturedPod): Promise<void> {
  const { uid } = stored.pod;
  const failures: AmbitError[] = [];
  const attempt = async (step: () => void | Promise<void>): Promise<void> => {
    try {
      await step();
    } catch (thrown) {
      failures.push(toAmbitError(thrown, 'RULES'));
    }
  };
  const alive = pathStillLeadsTo(stored.netns.path, stored.netns);
  if (alive) await attempt(async () => void (await applyRules(netns, buildRuleset(stored.overrides, 'release'))));
  await attempt(() => tools.capture.removePod(uid));
  if (alive) {
    await attempt(() => removeRules(netns));
    await attempt(() => withRouting(netns, (routing) => routing.remove()));
  }
  await attempt(() => tools.probes.end(uid));
  await attempt(abandon);
  await attempt(() => tools.store.remove(uid));
  if (failures[0] !== undefined) throw failures[0];
}

/**
 * Forgets a pod that could not be taken up. Its rules are removed where the namespace is still the recorded one, so that
 * a pod that was told to go does not stay cut off.
 */
export async function dropPod(tools: StepTools, stored: StoredPod): Promise<void> {
  await tools.store.remove(stored.pod.uid);
  await tools.probes.end(stored.pod.uid);
  if (!pathStillLeadsTo(stored.netns.path, stored.netns)) return;
  const netns = await openPodNetns(stored.netns.path, stored.pod.ips, stored.netns, tools.node);
  try {
    await removeRules(netns);
    await withRouting(netns, (routing) => routing.remove());
  } finally {
    netns.close();
  }
}

/** What is not as it should be with an enrolled pod, in words; empty when its traffic is captured and served. */
export async function inspectPod(tools: StepTools, { stored, netns }: CapturedPod): Promise<string[]> {
  const problems: string[] = [];
  if (!pathStillLeadsTo(stored.netns.path, stored.netns)) {
    problems.push(`${stored.netns.path} is another namespace than the one the pod was enrolled with`);
  }
  problems.push(
    ...(await checkRules(netns, buildRuleset(stored.overrides, 'capture', stored.probePorts), stored.rules)),
  );
  problems.push(...(await withRouting(netns, (routing) => routing.check())));
  if (!(await tools.capture.isListening(stored.pod.uid))) problems.push('the data plane does not listen in the pod');
  for (const port of findMissingListeners(netns)) problems.push(`nobody listens on port ${port} in the pod`);
  for (const port of findForeignListeners(netns)) problems.push(`a process of the pod listens on port ${port}`);
  return problems;
}

export function podName({ pod }: StoredPod): string {
  return `${pod.namespace}/${pod.name}`;
}

/** A step backwards never hides why it became necessary: its own failure is logged here. */
function undoing(what: string, step: () => Promise<void>): () => Promise<void> {
  return async () => {
    try {
      await step();
    } catch (thrown) {
      log.error(
        { step: what, reason: toAmbitError(thrown, 'RULES').message },
        'a failed enrolment was not undone cleanly',
      );
    }
  };
}

async function takeNetns(tools: StepTools, pod: EnrolledPod, path: string, expected?: NetnsIdentity) {
  const netns = await openPodNetns(path, pod.ips, expected, tools.node);
  try {
    const unclaim = tools.claims.claim(identityOf(netns), pod.uid);
    const abandon = (): void => {
      unclaim();
      netns.close();
    };
    return { netns, abandon };
  } catch (thrown) {
    netns.close();
    throw thrown;
  }
}

function refuseForeignListeners(netns: NetworkNamespace): void {
  const ports = findForeignBeforeListening(netns);
  if (ports.length > 0) {
    throw new AmbitError(
      'NETNS',
      `a process in the pod already listens on port ${ports.join(' and ')}, which the mesh needs`,
    );
  }
}

/** Waits for all, also when one fails: nothing may still run while it is undone. Throws the first failure. */
async function allSettled(steps: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(steps);
  const failure = results.find((result) => result.status === 'rejected');
  if (failure !== undefined) throw toAmbitError(failure.reason, 'NETNS');
}

async function withRouting<T>(netns: NetworkNamespace, work: (routing: PodRouting) => Promise<T>): Promise<T> {
  using routing = PodRouting.open(netns);
  return await work(routing);
}
