/**
 * The unattended check: every promise of the sandbox, one row each, in an order in which a later check does not disturb an
 * earlier one. A check that fails does not stop the others.
 */
import { toAmbitError } from '../../core/errors.ts';
import type { Sandbox } from '../sandbox.ts';
import type { Screen } from '../screen.ts';
import type { Check } from './check.ts';
import { CheckContext } from './context.ts';
import { enrolmentChecks } from './enrolment.ts';
import { metricsChecks } from './metrics.ts';
import { policyChecks, restorePolicies } from './policy.ts';
import { Probe } from './probe.ts';
import { renewalCheck } from './renewal.ts';
import { renderCheckRow } from './report.ts';
import { resilienceChecks } from './resilience.ts';
import { identityCheck, spreadCheck, trafficChecks } from './traffic.ts';
import { startWireCheck } from './wire.ts';

const KEPT_LOG_LINES = 25;

/** Resolves to true when every check held; false at the next row when `signal` aborts. */
export async function runCheck(
  sandbox: Sandbox,
  options: { readonly screen: Screen; readonly json: boolean; readonly signal: AbortSignal },
): Promise<boolean> {
  const { screen, json, signal } = options;
  // Before any traffic, so that every connection is followed from its first packet.
  const wire = await startWireCheck();
  const probes = new Map<string, Probe>();
  for (const pod of sandbox.kubelet.pods) probes.set(pod.key, await Probe.start(pod));
  const context = new CheckContext(sandbox, probes);
  const checks: readonly Check[] = [
    ...enrolmentChecks,
    ...trafficChecks,
    identityCheck,
    spreadCheck,
    ...metricsChecks,
    ...policyChecks,
    renewalCheck,
    ...resilienceChecks,
    wire.check,
  ];
  let failures = 0;
  if (!json) screen.print('');
  for (const check of checks) {
    const row = await check.run(context).then(
      (detail) => ({ id: check.id, ok: true, detail }),
      (error: unknown) => ({ id: check.id, ok: false, detail: toAmbitError(error, 'SANDBOX').message }),
    );
    // The sandbox is being taken down: what fails now says nothing.
    if (signal.aborted) return false;
    screen.print(renderCheckRow(row, { json, color: screen.isTerminal }));
    if (row.ok) continue;
    failures++;
    await restorePolicies(context);
  }
  await wire.stop();
  await Promise.all([...probes.values()].map((probe) => probe.end()));
  if (failures > 0 && !json) printLogs(sandbox, screen);
  return failures === 0;
}

/** The last words of the processes, without the access log, for whoever has to find out. */
function printLogs(sandbox: Sandbox, screen: Screen): void {
  for (const supervised of [sandbox.control, sandbox.agents.a, sandbox.agents.b]) {
    const lines = supervised.recentLines.filter((line) => !line.includes('"scope":"access"'));
    screen.print('', `last lines of ${supervised.name}:`, ...lines.slice(-KEPT_LOG_LINES).map((line) => `    ${line}`));
  }
}
