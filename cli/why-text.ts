/** The report of `ambit why` for people: the steps of a connection, one line each. Pure and total over the agent's JSON. */
import { isRecord } from '../core/decoder.ts';

type Fields = Readonly<Record<string, unknown>>;

const LABEL_WIDTH = 11;

/** `policyFile`: where the decisive policy is written, when that is known. */
export function renderWhy(report: Fields, policyFile: string | undefined): string {
  const to = fields(report.to);
  const lines = [`${describeEnd(fields(report.from))}  ->  ${text(to.asked)} (${text(to.address)})`];
  let step = 1;
  const add = (label: string, value: string): void => {
    lines.push(`  ${step++} ${label.padEnd(LABEL_WIDTH)} ${value}`);
  };
  add('route', describeRoute(fields(report.route)));
  const transport = fields(report.transport);
  add('transport', `${text(transport.path)}: ${text(transport.because)}`);
  if (report.inbound !== undefined) {
    const inbound = fields(report.inbound);
    add('inbound', `node ${text(inbound.node)}, port ${text(inbound.port)}`);
  }
  if (report.policy !== undefined) {
    const [first = 'no policy selects the destination', ...others] = describePolicies(fields(report.policy));
    add('policy', first);
    for (const other of others) lines.push(`${' '.repeat(LABEL_WIDTH + 5)}${other}`);
  }
  const where = policyFile === undefined ? '' : `  (${policyFile})`;
  lines.push(
    `  ${'verdict'.padEnd(LABEL_WIDTH + 2)} ${text(report.verdict).toUpperCase()}: ${text(report.reason)}${where}`,
  );
  for (const advice of list(report.advice)) lines.push(`  ${'to change it'.padEnd(LABEL_WIDTH + 2)} ${text(advice)}`);
  return lines.join('\n');
}

function describeEnd(end: Fields): string {
  const mesh = end.inMesh === true ? 'in mesh' : 'not in mesh';
  return `${text(end.namespace)}/${text(end.name)} (${text(end.address)}, node ${text(end.node)}, ${mesh})`;
}

function describeRoute(route: Fields): string {
  if (route.error !== undefined) return `refused: ${text(fields(route.error).message)}`;
  const parts: string[] = [];
  if (route.service !== undefined) {
    const service = fields(route.service);
    const endpoints = list(service.endpoints).map(fields);
    const healthy = endpoints.filter((endpoint) => endpoint.healthy === true).length;
    parts.push(
      `service ${text(service.namespace)}/${text(service.name)}, ${healthy} of ${endpoints.length} endpoints healthy`,
    );
  }
  if (route.destination !== undefined) {
    const destination = fields(route.destination);
    const picked = parts.length > 0 ? 'for example' : 'pod';
    parts.push(`${picked} ${text(destination.name)} (${text(destination.address)}, node ${text(destination.node)})`);
  } else parts.push(`to ${text(route.dial)}, which the mesh does not know`);
  return parts.join('; ');
}

function describePolicies(policy: Fields): string[] {
  const lines = list(policy.findings)
    .map(fields)
    .map((finding) => {
      const verdict = finding.decisive === true ? 'DECIDES' : finding.matched === true ? 'matches' : 'does not match';
      const dryRun = finding.dryRun === true ? ' (dry run)' : '';
      return `${text(finding.action).padEnd(6)} ${text(finding.policy)}${dryRun}: ${verdict}`;
    });
  for (const key of list(policy.unknownPolicies))
    lines.push(`       ${text(key)}: named by the workload, not known yet`);
  return lines;
}

function fields(value: unknown): Fields {
  return isRecord(value) ? value : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return value === undefined || value === null ? '?' : String(value);
}
