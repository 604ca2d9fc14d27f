/**
 * Dedicated mode: one pod, served from inside its own network namespace, without enrolment. The capture rules stand
 * already or are installed here, and then removed at an orderly end; after a crash they stay and the pod fails closed.
 */
import { networkInterfaces } from 'node:os';
import { NO_OVERRIDES } from '../core/enrolment/overrides.ts';
import { parseIp } from '../core/ip.ts';
import { NetworkNamespace } from '../reactor/netns.ts';
import type { DedicatedWorkload } from './config.ts';
import type { EnrolledPod, PodCapture } from './dataplane/pod-capture.ts';
import { applyRules, removeRules } from './enrol/nft.ts';
import { PodRouting } from './enrol/pod-routing.ts';
import { buildRuleset } from './enrol/rules.ts';

export interface DedicatedPod {
  readonly pod: EnrolledPod;
  /** Removes the rules that were installed here, then the listeners. */
  close(): Promise<void>;
}

/** Listens in the own namespace, then captures. Rejects with everything undone. */
export async function startDedicated(
  workload: DedicatedWorkload,
  capture: PodCapture,
  installRules: boolean,
): Promise<DedicatedPod> {
  await using undo = new AsyncDisposableStack();
  const netns = NetworkNamespace.current();
  undo.defer(() => netns.close());
  const { namespace, name, serviceAccount } = workload;
  const uid = `dedicated/${namespace}/${name}`;
  const pod: EnrolledPod = { uid, namespace, name, serviceAccount, ips: ownAddresses() };
  await capture.addPod(pod, netns.fd);
  undo.defer(() => capture.removePod(uid));
  if (installRules) {
    undo.defer(() => withRouting(netns, (routing) => routing.remove()));
    await withRouting(netns, (routing) => routing.ensure());
    undo.defer(() => removeRules(netns));
    await applyRules(netns, buildRuleset(NO_OVERRIDES));
  }
  const owned = undo.move();
  return { pod, close: () => owned.disposeAsync() };
}

function ownAddresses(): EnrolledPod['ips'] {
  const addresses = Object.values(networkInterfaces()).flatMap((addressesOfOne) => addressesOfOne ?? []);
  return addresses.flatMap(({ address, internal }) => {
    const ip = internal ? undefined : parseIp(address);
    return ip === undefined ? [] : [ip];
  });
}

async function withRouting(netns: NetworkNamespace, work: (routing: PodRouting) => Promise<void>): Promise<void> {
  using routing = PodRouting.open(netns);
  await work(routing);
}
