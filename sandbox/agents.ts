/** How the sandbox starts the node agents and the control plane: arguments, environment, and when they count as ready. */
import { writeFile } from 'node:fs/promises';
import { agentProgram } from '../agent/build.ts';
import { mintAgentToken } from '../control/tokens.ts';
import { AmbitError } from '../core/errors.ts';
import {
  CONFIG_DIRECTORY,
  CONTROL_IP,
  CONTROL_PORT,
  CONTROL_STATE_DIRECTORY,
  type NodeLayout,
  POD_DIRECTORY,
  REPOSITORY_DIRECTORY,
  TRUST_DOMAIN,
} from './layout.ts';
import { SupervisedProcess } from './supervised-process.ts';

const TOKEN_KEY_FILE = `${CONTROL_STATE_DIRECTORY}/token-key.pem`;
const ROOT_CERTIFICATE_FILE = `${CONTROL_STATE_DIRECTORY}/root-cert.pem`;
const TOKEN_LIFETIME_MS = 7 * 86_400_000;
/** A process that ended this often while somebody waits for it will not come up. */
const MAX_RESTARTS = 3;
const SHOWN_COMPLAINTS = 3;
const COMPLAINT_CHARACTERS = 400;
const AGENT_SERVICE_ACCOUNT = { namespace: 'istio-system', serviceAccount: 'ambit-agent' };

export function controlProcess(): SupervisedProcess {
  return new SupervisedProcess({
    name: 'control',
    argv: [
      ...[process.execPath, `${REPOSITORY_DIRECTORY}/control/main.ts`],
      ...['--config-dir', CONFIG_DIRECTORY, '--state-dir', CONTROL_STATE_DIRECTORY],
      ...['--listen', `${CONTROL_IP}:${CONTROL_PORT}`, '--token-key', TOKEN_KEY_FILE, '--trust-domain', TRUST_DOMAIN],
    ],
  });
}

export interface AgentOptions {
  /** Settings of the agent beyond what the sandbox needs, by environment name. */
  readonly settings: Readonly<Record<string, string>>;
  readonly onLine: (line: string) => void;
  readonly onExit: (description: string, wanted: boolean) => void;
}

/** Writes the node's token and prepares its agent; the caller starts it. */
export async function agentProcess(node: NodeLayout, options: AgentOptions): Promise<SupervisedProcess> {
  const tokenFile = `${node.runDirectory}/token`;
  const token = await mintAgentToken(TOKEN_KEY_FILE, { ...AGENT_SERVICE_ACCOUNT, node: node.name }, TOKEN_LIFETIME_MS);
  await writeFile(tokenFile, token, { mode: 0o600 });
  const { file } = await agentProgram();
  const address = `${CONTROL_IP}:${CONTROL_PORT}`;
  return new SupervisedProcess({
    name: `agent ${node.name}`,
    netns: node.namespace,
    argv: [process.execPath, file],
    env: {
      NODE_NAME: node.name,
      AMBIT_RUN_DIR: node.runDirectory,
      AMBIT_POD_SOURCE: POD_DIRECTORY,
      XDS_ADDRESS: address,
      CA_ADDRESS: address,
      XDS_ROOT_CA: ROOT_CERTIFICATE_FILE,
      CA_ROOT_CA: ROOT_CERTIFICATE_FILE,
      AUTH_TOKEN: tokenFile,
      TRUST_DOMAIN,
      LOG_FORMAT: 'json',
      // At the end of a run the pods are gone before their agents; nothing is worth waiting for.
      CONNECTION_TERMINATION_DEADLINE: '1s',
      ...options.settings,
    },
    onLine: options.onLine,
    onExit: options.onExit,
  });
}

/** The readiness page of a node's agent, over the management link. */
export function agentReadinessUrl(node: NodeLayout): string {
  return `http://${node.managementIp}:15021/healthz/ready`;
}

/**
 * Resolves when `isReady` says so, with the milliseconds it took. Rejects with the last complaints of the process when it
 * does not within the deadline, or when it ended again and again.
 */
export async function awaitReady(
  supervised: SupervisedProcess,
  isReady: () => Promise<boolean>,
  deadlineMs: number,
): Promise<number> {
  const startedAt = Date.now();
  const restarts = supervised.restarts;
  while (Date.now() - startedAt < deadlineMs && supervised.restarts < restarts + MAX_RESTARTS) {
    if (await isReady().catch(() => false)) return Date.now() - startedAt;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const ended = supervised.restarts > restarts ? `ended ${supervised.restarts - restarts} times` : 'was not ready';
  const tookS = Math.round((Date.now() - startedAt) / 1000);
  throw new AmbitError('SANDBOX', `${supervised.name} ${ended} within ${tookS} s${complaints(supervised.recentLines)}`);
}

/** The last lines that say something went wrong, shortened; else simply the last lines. */
function complaints(lines: readonly string[]): string {
  const bad = lines.filter((line) => !/"level":"(debug|info)"/.test(line));
  const shown = (bad.length > 0 ? bad : lines).slice(-SHOWN_COMPLAINTS);
  return shown.map((line) => `\n    ${line.slice(0, COMPLAINT_CHARACTERS)}`).join('');
}

/** True when a GET of the URL answers with status 200. */
export async function answersOk(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(1000) });
  await response.body?.cancel();
  return response.status === 200;
}
