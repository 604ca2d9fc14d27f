/**
 * What each CNI command does. The plugin knows nothing itself: it asks the node agent, and fails closed when it cannot.
 *
 * ADD      passes the result on once the agent says that the pod is captured, or that it is none of the mesh's
 * DEL      tells the agent; succeeds whatever it answers, since rules vanish with the namespace and an error would keep the pod
 * CHECK    asks whether rules, routing and listeners of the pod are in place
 * STATUS   always ready: a runtime that hears otherwise starts no pod at all, the agent's own neither
 * GC       passes on which attachments are still valid
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { AgentAnswer, PodReference, WireCommand } from '../core/enrolment/cni-wire.ts';
import { AgentUnreachable, callAgent } from './agent-client.ts';
import { type Command, type Environment, findPodReference, readAttachment, readNetns } from './call.ts';
import { CNI_ERROR, CniError } from './cni-error.ts';
import { CNI_LATEST, CNI_VERSIONS, isAtLeast } from './cni-version.ts';
import { type NetworkConfig, readNetworkConfig } from './network-config.ts';
import { addressesOf, convertResult } from './result.ts';

/** An agent that is gone must not hold up the removal of a pod. */
const DEL_TIMEOUT_MS = 3_000;
/** Runtimes ask before every pod. */
const STATUS_TIMEOUT_MS = 1_000;
const AGENT_HINT = 'the pod waits until the agent of this node runs; look at the agent pod and its log';

/** What to print on standard output (undefined: nothing). Rejects with CniError. */
export async function runCommand(command: Command, environment: Environment, input: string): Promise<unknown> {
  if (command === 'VERSION') return { cniVersion: CNI_LATEST, supportedVersions: CNI_VERSIONS };
  const config = readNetworkConfig(input);
  switch (command) {
    case 'ADD':
      return await add(config, environment);
    case 'DEL':
      return await del(config, environment);
    case 'CHECK':
      requireVersion(config, command, isAtLeast(config.cniVersion, '0.4.0'));
      return await check(config, environment);
    case 'STATUS':
      requireVersion(config, command, isAtLeast(config.cniVersion, '1.1.0'));
      return await status(config);
    case 'GC':
      requireVersion(config, command, isAtLeast(config.cniVersion, '1.1.0'));
      return await collectGarbage(config);
  }
}

async function add(config: NetworkConfig, environment: Environment): Promise<unknown> {
  const result = convertResult(config.prevResult, config.cniVersion);
  const request = podRequest(config, environment);
  if (request !== undefined) await ask('add', request, config, CNI_ERROR.captureFailed);
  return result;
}

async function check(config: NetworkConfig, environment: Environment): Promise<undefined> {
  const request = podRequest(config, environment);
  if (request !== undefined) await ask('check', request, config, CNI_ERROR.drifted);
}

async function del(config: NetworkConfig, environment: Environment): Promise<undefined> {
  const request = { attachment: readAttachment(environment), pod: findPodReference(environment) };
  const options = { runDir: config.runDir, timeoutMs: Math.min(config.timeoutMs, DEL_TIMEOUT_MS), waitMs: 0 };
  const answer = await callAgent('del', request, options).catch((error: Error) => error.message);
  const problem = typeof answer === 'string' ? answer : answer.kind === 'failed' ? answer.detail : undefined;
  if (problem !== undefined) process.stderr.write(`ambit-cni: DEL of ${request.attachment.containerId}: ${problem}\n`);
}

/**
 * Without an agent pods of the mesh wait, each with the reason in its own events. Saying so here would hold up every pod of
 * the node, and with it the agent, which has a network of its own: nobody could ever come to answer.
 */
async function status(config: NetworkConfig): Promise<undefined> {
  const held = countHeldPods(config.runDir);
  const consequence =
    held > 0 ? `new pods wait, and ${held} captured pods may be cut off` : 'new pods of the mesh wait';
  const options = { runDir: config.runDir, timeoutMs: Math.min(config.timeoutMs, STATUS_TIMEOUT_MS), waitMs: 0 };
  const answer = await callAgent('status', undefined, options).catch((error: Error) => error.message);
  const problem = typeof answer === 'string' ? answer : answer.kind === 'failed' ? answer.detail : undefined;
  if (problem !== undefined) process.stderr.write(`ambit-cni: STATUS: ${problem}; ${consequence}\n`);
}

async function collectGarbage(config: NetworkConfig): Promise<undefined> {
  if (config.validAttachments === undefined) {
    throw new CniError(CNI_ERROR.invalidConfig, 'cni.dev/valid-attachments must be given for GC');
  }
  await ask('gc', { validAttachments: config.validAttachments }, config, CNI_ERROR.ioFailure);
}

/** The body of an `add` or `check`, or undefined for pods that pass without anybody being asked. */
function podRequest(config: NetworkConfig, environment: Environment): unknown {
  const attachment = readAttachment(environment);
  const netns = readNetns(environment);
  const pod = findPodReference(environment);
  if (pod === undefined || passesUnasked(pod, config)) return undefined;
  if (config.prevResult === undefined) {
    throw new CniError(
      CNI_ERROR.invalidConfig,
      'prevResult is missing',
      'this plugin belongs at the end of a chain, behind the plugin that gives the pod its address',
    );
  }
  return { attachment, pod, netns, ips: addressesOf(config.prevResult) };
}

/** The agent's own pod cannot wait for itself; excluded namespaces hold what a node needs to start. */
function passesUnasked(pod: PodReference, config: NetworkConfig): boolean {
  if (config.excludeNamespaces.includes(pod.namespace)) return true;
  return pod.namespace === config.agentNamespace && pod.name.startsWith(config.agentPodPrefix);
}

async function ask(
  command: WireCommand,
  body: unknown,
  config: NetworkConfig,
  refusedCode: number,
): Promise<AgentAnswer> {
  const options = { runDir: config.runDir, timeoutMs: config.timeoutMs, waitMs: config.agentWaitMs };
  const answer = await callAgent(command, body, options).catch((error: unknown) => {
    if (!(error instanceof AgentUnreachable)) throw error;
    throw new CniError(CNI_ERROR.tryAgainLater, error.message, AGENT_HINT);
  });
  if (answer.kind !== 'failed') return answer;
  const busy = answer.code === 'AGENT_UNREACHABLE' || answer.code === 'UNKNOWN_WORKLOAD';
  throw new CniError(busy ? CNI_ERROR.tryAgainLater : refusedCode, answer.detail, `reason ${answer.code}`);
}

/** Pods the agent holds according to its state files; 0 when there are none to read. */
function countHeldPods(runDir: string): number {
  try {
    return readdirSync(join(runDir, 'pods')).filter((name) => name.endsWith('.json')).length;
  } catch {
    return 0;
  }
}

function requireVersion(config: NetworkConfig, command: Command, fits: boolean): void {
  if (fits) return;
  throw new CniError(CNI_ERROR.incompatibleVersion, `cniVersion ${config.cniVersion} has no ${command}`);
}
