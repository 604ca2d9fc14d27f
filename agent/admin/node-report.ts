/**
 * `/node`: how this agent and its node are, for `ambit check`, `ambit status` and sysdumps. Read-only; with `?probe` a
 * connection is opened inside every enrolled pod, as after its enrolment, and the answer says which ones arrived.
 *
 * The shape is a contract with command lines of other versions: fields are added, never changed.
 */
import type { SpiffeId } from '../../core/spiffe.ts';
import { AGENT_VERSION } from '../../core/version.ts';
import type { PodView as EnrolmentView } from '../enrol/pod-entry.ts';
import type { ChainOrder } from '../install/chain-order.ts';
import type { KeeperStatus } from '../install/keeper.ts';
import type { CertificateStatus } from '../state/certificates.ts';
import { type MachineFacts, readMachine } from './machine.ts';

export interface NodePod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly ips: readonly string[];
  readonly serviceAccount: string;
  readonly state: EnrolmentView['state'];
  /** RFC 3339; absent before it is enrolled. */
  readonly since?: string;
  readonly problem?: string;
  /** `passed`, `not tried`, or what happened; absent where nobody asked for it. */
  readonly selfTest?: string;
}

export interface NodeIdentity {
  readonly identity: SpiffeId;
  readonly state: CertificateStatus['state']['kind'];
  readonly reason?: string;
  /** RFC 3339. */
  readonly notAfter?: string;
  /** Requests that failed since the last that succeeded, and why the last one did. */
  readonly failures: number;
  readonly lastFailure?: { readonly at: string; readonly reason: string };
}

export interface NodeInstallation {
  readonly binaryFolder: string;
  readonly configFolder: string;
  readonly netnsFolder: string;
  readonly foundBy: string;
  readonly state: KeeperStatus['state'];
  readonly problem?: string;
  readonly chain: ChainOrder;
}

export interface NodeReport extends MachineFacts {
  readonly node: string;
  readonly pod: string;
  readonly version: string;
  readonly runtime: string;
  /** RFC 3339, milliseconds: when the report was made, by the clock of the node. */
  readonly clock: string;
  /** RFC 3339. */
  readonly started: string;
  /** Start-up tasks that are not finished; empty when ready. */
  readonly pending: readonly string[];
  /** Another agent has taken over: this one only lets its connections end. */
  readonly retired: boolean;
  /** What is being tried again, in words. */
  readonly problems: readonly string[];
  /** Absent where the agent does not install the plugin. */
  readonly installation?: NodeInstallation;
  /** Are kubelet's probes recognised? `recognised`, or why not; absent where no node is served. */
  readonly probes?: string;
  readonly pods: readonly NodePod[];
  readonly identities: readonly NodeIdentity[];
  /** Absent without a control plane. */
  readonly xds?: {
    readonly connected: boolean;
    /** RFC 3339: when the present stream began. */
    readonly since?: string;
    /** RFC 3339: when everything had come for the first time. */
    readonly synced?: string;
  };
}

/** What only the running agent knows. */
export interface NodeStatus {
  readonly hostNetns: string | undefined;
  readonly report: Omit<NodeReport, keyof MachineFacts | 'version' | 'runtime' | 'clock' | 'started'>;
}

/** Never rejects. */
export async function nodeReport(status: NodeStatus): Promise<NodeReport> {
  const machine = await readMachine(status.hostNetns);
  return {
    version: AGENT_VERSION,
    runtime: process.version,
    clock: new Date().toISOString(),
    started: new Date(performance.timeOrigin).toISOString(),
    ...status.report,
    ...machine,
  };
}

export function describeIdentity({
  identity,
  state,
  certificate,
  failures,
  lastFailure,
}: CertificateStatus): NodeIdentity {
  return {
    identity,
    state: state.kind,
    ...(state.kind === 'unavailable' ? { reason: state.reason } : {}),
    ...(certificate === undefined ? {} : { notAfter: new Date(certificate.notAfterMs).toISOString() }),
    failures,
    ...(lastFailure === undefined
      ? {}
      : { lastFailure: { at: new Date(lastFailure.atMs).toISOString(), reason: lastFailure.reason } }),
  };
}

/** `outcomes`: results of the self-test by UID. */
export function describePod(view: EnrolmentView, outcomes: ReadonlyMap<string, string> | undefined): NodePod {
  const { namespace, name, uid, ips, serviceAccount } = view.pod;
  const selfTest = outcomes === undefined ? undefined : (outcomes.get(uid) ?? 'not tried');
  return {
    namespace,
    name,
    uid,
    ips,
    serviceAccount,
    state: view.state,
    ...(view.enrolledAt === undefined ? {} : { since: view.enrolledAt }),
    ...(view.problem === undefined ? {} : { problem: view.problem }),
    ...(selfTest === undefined ? {} : { selfTest }),
  };
}
