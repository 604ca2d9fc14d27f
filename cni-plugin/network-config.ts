/**
 * The plugin's entry of the network configuration, read from standard input. Keys of ours:
 *
 *     runDir               folder of the agent's socket
 *     excludeNamespaces    namespaces whose pods pass without asking the agent
 *     agentNamespace, agentPodPrefix    the agent's own pods, which must start before anybody can be asked
 *     timeoutMs            longest time for one call to the agent
 *     agentWaitMs          how long ADD and CHECK wait for an agent that is just starting
 *
 * Unknown keys are left alone: runtimes add their own.
 */
import { type Attachment, DEFAULT_RUN_DIR, decodeAttachment } from '../core/enrolment/cni-wire.ts';
import { DEFAULT_EXCLUDED_NAMESPACES } from '../core/enrolment/eligibility.ts';
import { DEFAULT_AGENT_NAMESPACE, DEFAULT_AGENT_POD_PREFIX } from '../core/enrolment/plugin-entry.ts';
import { CNI_ERROR, CniError } from './cni-error.ts';
import { CNI_VERSIONS, type CniVersion, findCniVersion } from './cni-version.ts';

export const DEFAULT_TIMEOUT_MS = 10_000;
export const DEFAULT_AGENT_WAIT_MS = 2_000;
const MAX_TIMEOUT_MS = 120_000;
const MAX_CONFIG_CHARACTERS = 4 * 1024 * 1024;

export interface NetworkConfig {
  readonly cniVersion: CniVersion;
  readonly runDir: string;
  readonly excludeNamespaces: readonly string[];
  readonly agentNamespace: string;
  readonly agentPodPrefix: string;
  readonly timeoutMs: number;
  readonly agentWaitMs: number;
  /** Result of the plugins before this one, as they gave it. */
  readonly prevResult: Readonly<Record<string, unknown>> | undefined;
  /** GC: attachments the runtime still knows. */
  readonly validAttachments: readonly Attachment[] | undefined;
}

/** Throws CniError 6 for text that is not JSON, 1 for a version we do not speak, 7 for a key with a wrong value. */
export function readNetworkConfig(text: string): NetworkConfig {
  const fields = parseObject(text);
  const cniVersion = findCniVersion(fields.cniVersion);
  if (cniVersion === undefined) {
    const given = typeof fields.cniVersion === 'string' ? fields.cniVersion.slice(0, 32) : 'none';
    throw new CniError(
      CNI_ERROR.incompatibleVersion,
      `cniVersion ${given} is not supported`,
      `supported: ${CNI_VERSIONS.join(', ')}`,
    );
  }
  return {
    cniVersion,
    runDir: absolutePath(fields.runDir ?? DEFAULT_RUN_DIR),
    excludeNamespaces: textList(fields.excludeNamespaces ?? DEFAULT_EXCLUDED_NAMESPACES, 'excludeNamespaces'),
    agentNamespace: plainText(fields.agentNamespace ?? DEFAULT_AGENT_NAMESPACE, 'agentNamespace'),
    agentPodPrefix: plainText(fields.agentPodPrefix ?? DEFAULT_AGENT_POD_PREFIX, 'agentPodPrefix'),
    timeoutMs: milliseconds(fields.timeoutMs ?? DEFAULT_TIMEOUT_MS, 'timeoutMs'),
    agentWaitMs: milliseconds(fields.agentWaitMs ?? DEFAULT_AGENT_WAIT_MS, 'agentWaitMs'),
    prevResult: optionalObject(fields.prevResult, 'prevResult'),
    validAttachments: attachments(fields['cni.dev/valid-attachments']),
  };
}

function parseObject(text: string): Record<string, unknown> {
  if (text.length > MAX_CONFIG_CHARACTERS)
    throw new CniError(CNI_ERROR.undecodable, 'the network configuration is too large');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new CniError(CNI_ERROR.undecodable, 'the network configuration on standard input is not JSON');
  }
  const fields = optionalObject(value, 'the network configuration');
  if (fields === undefined) throw invalid('the network configuration', 'an object');
  return fields;
}

function optionalObject(value: unknown, key: string): Record<string, unknown> | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw invalid(key, 'an object');
  return { ...value };
}

/** Runtimes in Go write a slice that was never filled as null: nothing is valid. Absent is another matter: undefined. */
function attachments(value: unknown): readonly Attachment[] | undefined {
  if (value === undefined) return undefined;
  if (value === null) return [];
  if (!Array.isArray(value)) throw invalid('cni.dev/valid-attachments', 'a list');
  return value.map((entry: unknown) => {
    const fields = optionalObject(entry, 'cni.dev/valid-attachments') ?? {};
    try {
      return decodeAttachment({ containerId: fields.containerID, ifName: fields.ifname });
    } catch (error) {
      throw invalid(
        'cni.dev/valid-attachments',
        `a list of attachments (${error instanceof Error ? error.message : ''})`,
      );
    }
  });
}

function absolutePath(value: unknown): string {
  if (typeof value !== 'string' || !value.startsWith('/') || value.includes('\0'))
    throw invalid('runDir', 'an absolute path');
  return value;
}

function plainText(value: unknown, key: string): string {
  if (typeof value !== 'string' || value === '') throw invalid(key, 'text');
  return value;
}

function textList(value: unknown, key: string): readonly string[] {
  if (!Array.isArray(value)) throw invalid(key, 'a list of names');
  return value.map((entry) => plainText(entry, key));
}

function milliseconds(value: unknown, key: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > MAX_TIMEOUT_MS) {
    throw invalid(key, `a whole number of milliseconds up to ${MAX_TIMEOUT_MS}`);
  }
  return value;
}

function invalid(key: string, wanted: string): CniError {
  return new CniError(CNI_ERROR.invalidConfig, `${key} must be ${wanted}`);
}
