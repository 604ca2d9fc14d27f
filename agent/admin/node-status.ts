/** What the parts of a running agent say about themselves, gathered for the node page. */
import type { AgentConfig } from '../config.ts';
import { probePods } from '../enrol/probe-pods.ts';
import type { EnrolmentService } from '../enrol/service.ts';
import { readChainOrder } from '../install/chain-order.ts';
import type { Installation } from '../install/installation.ts';
import { visiblePath } from '../install/node-path.ts';
import type { CertificateStatus } from '../state/certificates.ts';
import type { XdsClientStats } from '../state/xds-client.ts';
import {
  describeIdentity,
  describePod,
  type NodeInstallation,
  type NodeReport,
  type NodeStatus,
} from './node-report.ts';

/** Less than the silence that the admin port allows (docs/LIMITS.md). */
const PROBE_WITHIN_MS = 3_000;

/** The parts of an agent; absent ones are not running. */
export interface NodeParts {
  readonly config: AgentConfig;
  readonly pending: readonly string[];
  readonly node:
    | {
        readonly retired: boolean;
        readonly enrolment: EnrolmentService | undefined;
        readonly installation: Installation | undefined;
        problems(): string[];
      }
    | undefined;
  readonly certificates: readonly CertificateStatus[];
  readonly xds: XdsClientStats | undefined;
}

/** Never rejects. */
export async function gatherNodeStatus(parts: NodeParts, probe: boolean): Promise<NodeStatus> {
  const { config, node, xds } = parts;
  const pods = node?.enrolment?.list() ?? [];
  const [outcomes, installation] = await Promise.all([
    probe ? probePods(pods, PROBE_WITHIN_MS) : undefined,
    node?.installation === undefined ? undefined : describeInstallation(config.hostRoot, node.installation),
  ]);
  return {
    hostNetns: config.hostNetns,
    report: {
      node: config.nodeName,
      pod: config.podName,
      pending: parts.pending,
      retired: node?.retired ?? false,
      problems: node?.problems() ?? [],
      ...(installation === undefined ? {} : { installation }),
      ...(node?.enrolment === undefined ? {} : { probes: node.enrolment.probes() }),
      pods: pods.map((view) => describePod(view, outcomes)),
      identities: parts.certificates.map(describeIdentity),
      ...(xds === undefined ? {} : { xds: describeXds(xds) }),
    },
  };
}

async function describeInstallation(hostRoot: string, installation: Installation): Promise<NodeInstallation> {
  const { binaryFolder, configFolder, netnsFolder, foundBy } = installation.folders;
  const status = installation.status();
  const [config, binary] = await Promise.all([
    visiblePath(hostRoot, configFolder),
    visiblePath(hostRoot, binaryFolder),
  ]);
  return {
    binaryFolder,
    configFolder,
    netnsFolder,
    foundBy,
    state: status.state,
    ...(status.state === 'incomplete' ? { problem: status.problem } : {}),
    chain: await readChainOrder(config, binary),
  };
}

function describeXds({ connected, connectedSinceMs, syncedAtMs }: XdsClientStats): NonNullable<NodeReport['xds']> {
  return {
    connected,
    ...(connectedSinceMs === undefined ? {} : { since: new Date(connectedSinceMs).toISOString() }),
    ...(syncedAtMs === undefined ? {} : { synced: new Date(syncedAtMs).toISOString() }),
  };
}
