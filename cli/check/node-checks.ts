/** The nodes, by what their agents report: plugin, kernel, clock, bounded things, certificates, discovery. */
import { PLUGIN_TYPE } from '../../core/enrolment/plugin-entry.ts';
import type { AgentReport } from '../agents.ts';
import type { NodeReport, Usage } from '../node-report.ts';
import { formatDuration } from '../output.ts';
import { type Check, type CheckOutcome, failed, nameSome, outcomes, skipped, warning } from './check.ts';
import type { CheckWorld } from './world.ts';

/** Shares of a limit from which it is worth a look, and from which connections will soon be refused. */
const MUCH = 0.7;
const TOO_MUCH = 0.9;
/** Certificates are made valid two minutes before they are issued. */
const TOLERATED_SKEW_MS = 5_000;
const MOST_SKEW_MS = 60_000;
const HOUR_MS = 3_600_000;

export const NODE_CHECKS: readonly Check[] = [
  {
    id: 'node.report',
    group: 'nodes',
    about:
      'The agent of every node answers on its admin port, reached through the API server, and is not stuck in its start.',
    when: 'installed',
    async run(world) {
      const { reports, failures } = await world.nodeReports();
      if (reports.length + failures.length === 0) return skipped('no agent runs');
      const problems: CheckOutcome[] = failures.map(({ agent, problem }) =>
        failed(`${agent.node}: ${problem}`, `kubectl logs -n ${agent.namespace} ${agent.name}`),
      );
      for (const { agent, report } of reports) {
        if (report.pending.length > 0)
          problems.push(
            failed(
              `${agent.node}: not ready, waits for ${report.pending.join(', ')}`,
              `kubectl logs -n ${agent.namespace} ${agent.name}`,
            ),
          );
        if (report.problems.length > 0)
          problems.push(warning(`${agent.node}: ${nameSome(report.problems, 3)}`, 'it is tried again by itself'));
      }
      return outcomes(problems, `${reports.length} agents answer`);
    },
  },
  each({
    id: 'node.kernel',
    about: 'Each node has nft, whose rules capture pods; IPv6 is told because pods of both families need it.',
    look: ({ report: { nft } }) =>
      nft === undefined
        ? failed('nft does not run', 'use the image of Ambit, or install nftables with JSON support')
        : [],
    fine: (reports) => describeKernels(reports.map(({ report }) => report)),
  }),
  {
    id: 'node.clock',
    group: 'nodes',
    about:
      'The clocks of the nodes agree with each other: certificates that a node does not find valid yet end its connections.',
    when: 'installed',
    async run(world) {
      const { reports } = await world.nodeReports();
      if (reports.length === 0) return skipped('no agent answers');
      return clockOutcomes(reports);
    },
  },
  each({
    id: 'cni.plugin',
    about:
      'The CNI plugin and its configuration are in the folders of the container runtime, as this agent wrote them.',
    look: ({ report: { installation } }) => {
      if (installation === undefined || installation.state === 'installed') return [];
      return failed(
        installation.problem ?? 'not installed',
        `look at ${installation.configFolder} and ${installation.binaryFolder} (found by ${installation.foundBy})`,
      );
    },
    fine: (reports) => `${reports.length} nodes: ${uniqueFolders(reports)}`,
  }),
  each({
    id: 'cni.chain.order',
    about:
      'The runtime reads the configuration of Ambit first, and in it Ambit is called last, after the network made the interface.',
    look: ({ report: { installation } }) => (installation === undefined ? [] : chainOutcome(installation)),
    fine: (reports) => describeChain(reports),
  }),
  each({
    id: 'conntrack.headroom',
    about: `Less than ${MUCH * 100} % of the connection tracking table of a node is in use: when it is full, the kernel drops new connections.`,
    look: ({ report: { conntrack } }) =>
      headroom(conntrack, 'entries of connection tracking', 'raise net.netfilter.nf_conntrack_max on the node'),
    fine: (reports) => most(reports, ({ conntrack }) => conntrack),
  }),
  each({
    id: 'descriptors.headroom',
    about: `Less than ${MUCH * 100} % of the descriptors of an agent are in use: when none is left, it refuses connections.`,
    look: ({ report: { descriptors } }) =>
      headroom(
        descriptors,
        'descriptors of the agent',
        'raise the limit of open files of the container runtime (LimitNOFILE)',
      ),
    fine: (reports) => most(reports, ({ descriptors }) => descriptors),
  }),
  each({
    id: 'identity.renewals',
    group: 'identity',
    about:
      'Agents have a certificate for every identity on their node and renew them; one that ends ends its connections.',
    look: ({ agent, report }, world) => renewalOutcomes(agent.node, report, world.nowMs()),
    fine: (reports, world) => describeCertificates(reports, world.nowMs()),
  }),
  each({
    id: 'xds.connected',
    group: 'control plane',
    about:
      'Every agent has a stream to the control plane and got everything once; without one it goes on with what it knew.',
    look: ({ report: { xds } }) => {
      if (xds === undefined) return [];
      if (!xds.connected)
        return failed('no stream to the control plane', 'see control.ready, and the log of the agent');
      return xds.synced === undefined ? warning('connected, and not everything has come yet') : [];
    },
    fine: (reports) => `${reports.length} of ${reports.length} agents`,
  }),
];

interface PerNode {
  readonly id: string;
  readonly group?: Check['group'];
  readonly about: string;
  look(one: AgentReport, world: CheckWorld): CheckOutcome | readonly CheckOutcome[];
  fine(reports: readonly AgentReport[], world: CheckWorld): string;
}

/** A check that looks at every node for itself; what it finds begins with the name of the node. */
function each({ id, group = 'nodes', about, look, fine }: PerNode): Check {
  return {
    id,
    group,
    about,
    when: 'installed',
    async run(world) {
      const { reports } = await world.nodeReports();
      if (reports.length === 0) return skipped('no agent answers');
      const problems = reports.flatMap((one) =>
        [look(one, world)].flat().map((outcome) => ({ ...outcome, text: `${one.agent.node}: ${outcome.text}` })),
      );
      return outcomes(problems, fine(reports, world));
    },
  };
}

/** Every clock is compared with the middle one, so that one that is off is named, and not this machine's. */
function clockOutcomes(reports: readonly AgentReport[]): readonly CheckOutcome[] {
  const ahead = reports.map(({ clockAheadMs }) => clockAheadMs).sort((a, b) => a - b);
  const middle = reports.length === 1 ? 0 : (ahead[Math.floor((ahead.length - 1) / 2)] ?? 0);
  const problems = reports.flatMap(({ agent, clockAheadMs, clockErrorMs }) => {
    const offMs = Math.abs(clockAheadMs - middle);
    if (offMs - clockErrorMs <= TOLERATED_SKEW_MS) return [];
    const text = `${agent.node}: ${formatDuration(offMs)} ${clockAheadMs > middle ? 'ahead of' : 'behind'} ${reports.length === 1 ? 'this machine' : 'the other nodes'}`;
    const fix = 'check time synchronisation on the node (chrony, timesyncd)';
    return [offMs > MOST_SKEW_MS ? failed(text, fix) : warning(text, fix)];
  });
  const spread = (ahead.at(-1) ?? 0) - (ahead[0] ?? 0);
  const error = Math.max(...reports.map(({ clockErrorMs }) => clockErrorMs));
  return outcomes(
    problems,
    `${reports.length} nodes within ${formatDuration(Math.max(spread, 1))}, measured to ${formatDuration(Math.max(error, 1))}`,
  );
}

function chainOutcome({ chain, configFolder }: NonNullable<NodeReport['installation']>): CheckOutcome[] {
  const { file, plugins, ownFile, problem } = chain;
  if (problem !== undefined) return [failed(`${configFolder}: ${problem}`)];
  if (ownFile === undefined)
    return [failed(`no configuration of Ambit in ${configFolder}`, 'the agent repairs it: see cni.plugin')];
  if (file !== ownFile) {
    return [
      failed(
        `the runtime reads ${file ?? 'nothing'} before ${ownFile}: new pods are not captured`,
        `rename ${configFolder}/${file ?? ''} so that it sorts behind, or find out who writes it`,
      ),
    ];
  }
  if (plugins.at(-1) === PLUGIN_TYPE) return [];
  const at = plugins.indexOf(PLUGIN_TYPE);
  if (at < 0) return [failed(`${file} does not call ${PLUGIN_TYPE}: ${plugins.join(', ')}`)];
  return [failed(`${PLUGIN_TYPE} is number ${at + 1} of ${plugins.length} in ${file}; it has to be last`)];
}

function headroom(usage: Usage | undefined, what: string, fix: string): CheckOutcome[] {
  if (usage === undefined) return skipped(`how many ${what} are in use cannot be read`);
  const share = usage.used / usage.limit;
  if (share < MUCH) return [];
  const text = `${Math.round(share * 100)} % of ${usage.limit} ${what} in use`;
  return [share < TOO_MUCH ? warning(text, fix) : failed(text, fix)];
}

function most(reports: readonly AgentReport[], pick: (report: NodeReport) => Usage | undefined): string {
  const shares = reports.flatMap(({ agent, report }) => {
    const usage = pick(report);
    return usage === undefined ? [] : [{ node: agent.node, usage, share: usage.used / usage.limit }];
  });
  const fullest = shares.toSorted((a, b) => b.share - a.share)[0];
  if (fullest === undefined) return 'nothing in use';
  return `at most ${(fullest.share * 100).toFixed(1)} % in use (${fullest.node}: ${fullest.usage.used} of ${fullest.usage.limit})`;
}

function renewalOutcomes(node: string, { identities }: NodeReport, nowMs: number): CheckOutcome[] {
  const fix = `look for "no certificate issued" in the log of the agent of ${node}, and see control.ready`;
  return identities.flatMap(({ identity, state, reason, notAfter, failures, lastFailure }) => {
    if (state === 'unavailable') return [failed(`no certificate for ${identity}: ${reason ?? 'unknown why'}`, fix)];
    if (failures === 0 || notAfter === undefined) return [];
    const left = formatDuration(Math.max(0, Date.parse(notAfter) - nowMs));
    const why = lastFailure === undefined ? '' : `: ${lastFailure.reason}`;
    return [warning(`${failures} renewals of ${identity} failed, ${left} left${why}`, fix)];
  });
}

function describeCertificates(reports: readonly AgentReport[], nowMs: number): string {
  const identities = reports.flatMap(({ report }) => report.identities);
  const ends = identities.flatMap(({ notAfter }) => (notAfter === undefined ? [] : [Date.parse(notAfter)]));
  if (ends.length === 0) return `${identities.length} identities`;
  const failures = identities.filter(
    ({ lastFailure }) => lastFailure !== undefined && nowMs - Date.parse(lastFailure.at) < HOUR_MS,
  );
  return `${identities.length} identities, the first certificate ends in ${formatDuration(Math.min(...ends) - nowMs)}, ${failures.length} failures in the last hour`;
}

function describeKernels(reports: readonly NodeReport[]): string {
  const seen = new Set(
    reports.map(({ kernel, nft, ipv6 }) => `kernel ${kernel}, nft ${nft ?? '-'}, ${ipv6 ? 'IPv6' : 'no IPv6'}`),
  );
  return nameSome([...seen], 3);
}

function describeChain(reports: readonly AgentReport[]): string {
  const seen = new Set(
    reports.flatMap(({ report: { installation } }) =>
      installation === undefined ? [] : [`${installation.chain.file}: ${installation.chain.plugins.join(' > ')}`],
    ),
  );
  return seen.size === 0 ? 'the agents install no plugin' : nameSome([...seen], 3);
}

function uniqueFolders(reports: readonly AgentReport[]): string {
  const seen = new Set(
    reports.flatMap(({ report: { installation } }) =>
      installation === undefined
        ? []
        : [`${installation.configFolder} and ${installation.binaryFolder}, by ${installation.foundBy}`],
    ),
  );
  return seen.size === 0 ? 'the agents install no plugin' : nameSome([...seen], 2);
}
