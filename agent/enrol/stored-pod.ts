/**
 * What the agent writes about an enrolled pod, so that a later agent finds it again without asking anybody: the pod, its
 * namespace, the runtime's name for the attachment, and what the rules looked like when they were put in place.
 * The decoder is total; a file of a newer version is refused rather than guessed at.
 */
import { type Attachment, decodeAttachment } from '../../core/enrolment/cni-wire.ts';
import type { TrafficOverrides } from '../../core/enrolment/overrides.ts';
import { AmbitError } from '../../core/errors.ts';
import { type IpAddress, parseIp } from '../../core/ip.ts';
import type { EnrolledPod } from '../dataplane/pod-capture.ts';
import type { NetnsIdentity } from './pod-netns.ts';
import type { RulesFingerprint } from './rules-listing.ts';

export const STORED_POD_VERSION = 1;

export interface StoredPod {
  readonly version: typeof STORED_POD_VERSION;
  readonly pod: EnrolledPod;
  /** The runtime's name for the sandbox; undefined for a pod that the agent found running. */
  readonly attachment: Attachment | undefined;
  readonly netns: NetnsIdentity & { readonly path: string };
  readonly overrides: TrafficOverrides;
  readonly rules: RulesFingerprint;
  /** Ports kubelet probes; undefined when nobody knew. */
  readonly probePorts: readonly number[] | undefined;
  /** True when the pod was leaving the mesh: its rules redirect nothing new. */
  readonly leaving: boolean;
  /** RFC 3339, UTC. */
  readonly enrolledAt: string;
}

/** Names that become part of a file name. */
const SAFE_UID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;
const MAX_LIST = 4096;

export function isSafeUid(uid: string): boolean {
  return SAFE_UID.test(uid);
}

/** Throws `DECODE` naming the field that does not fit. */
export function decodeStoredPod(value: unknown): StoredPod {
  const fields = record(value, 'file');
  if (fields.version !== STORED_POD_VERSION) throw wrong('version', `${STORED_POD_VERSION}`);
  const netns = record(fields.netns, 'netns');
  const overrides = record(fields.overrides, 'overrides');
  const rules = record(fields.rules, 'rules');
  if (typeof overrides.captureInbound !== 'boolean') throw wrong('overrides.captureInbound', 'true or false');
  return {
    version: STORED_POD_VERSION,
    pod: decodePod(fields.pod),
    attachment: fields.attachment === undefined ? undefined : decodeAttachment(fields.attachment),
    netns: {
      path: text(netns.path, 'netns.path'),
      device: digits(netns.device, 'netns.device'),
      inode: digits(netns.inode, 'netns.inode'),
    },
    overrides: {
      captureInbound: overrides.captureInbound,
      virtualInterfaces: texts(overrides.virtualInterfaces, 'overrides.virtualInterfaces'),
    },
    rules: {
      text: text(rules.text, 'rules.text'),
      chains: texts(rules.chains, 'rules.chains'),
      rules: texts(rules.rules, 'rules.rules'),
    },
    // Absent in files of former versions.
    probePorts: fields.probePorts === undefined ? undefined : ports(fields.probePorts, 'probePorts'),
    leaving: fields.leaving === true,
    enrolledAt: text(fields.enrolledAt, 'enrolledAt'),
  };
}

function decodePod(value: unknown): EnrolledPod {
  const fields = record(value, 'pod');
  const uid = text(fields.uid, 'pod.uid');
  if (!isSafeUid(uid)) throw wrong('pod.uid', 'a UID');
  const ips = texts(fields.ips, 'pod.ips').map((ip): IpAddress => {
    const parsed = parseIp(ip);
    if (parsed === undefined) throw wrong('pod.ips', 'a list of addresses');
    return parsed;
  });
  if (ips.length === 0) throw wrong('pod.ips', 'at least one address');
  return {
    uid,
    name: text(fields.name, 'pod.name'),
    namespace: text(fields.namespace, 'pod.namespace'),
    serviceAccount: text(fields.serviceAccount, 'pod.serviceAccount'),
    ips,
  };
}

function record(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(field, 'an object');
  return { ...value };
}

function text(value: unknown, field: string): string {
  if (typeof value !== 'string' || value === '' || value.length > 4096) throw wrong(field, 'text');
  return value;
}

function texts(value: unknown, field: string): readonly string[] {
  if (!Array.isArray(value) || value.length > MAX_LIST) throw wrong(field, 'a list');
  return value.map((entry) => text(entry, field));
}

function ports(value: unknown, field: string): readonly number[] {
  if (!Array.isArray(value) || value.length > MAX_LIST) throw wrong(field, 'a list');
  return value.map((port: unknown) => {
    if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65535) throw wrong(field, 'ports');
    return port;
  });
}

function digits(value: unknown, field: string): string {
  if (typeof value !== 'string' || !/^[0-9]{1,20}$/.test(value)) throw wrong(field, 'a decimal number as text');
  return value;
}

function wrong(field: string, wanted: string): AmbitError {
  return new AmbitError('DECODE', `${field} must be ${wanted}`);
}
