/**
 * Reads what enrolment needs out of a Kubernetes Pod or Namespace object, whether it came from YAML or from the API
 * server. Pure. Everything else of the object is dropped, so that the copy of a node's pods stays small.
 */

import { SIDECAR_STATUS_ANNOTATION } from '../../core/enrolment/eligibility.ts';
import type { Labels } from '../../core/enrolment/label-selector.ts';
import {
  BYPASS_INBOUND_ANNOTATION,
  DNS_CAPTURE_ANNOTATION,
  REROUTE_INTERFACES_ANNOTATION,
} from '../../core/enrolment/overrides.ts';
import { ENROLLED_CONDITION, REDIRECTION_ANNOTATION } from '../../core/enrolment/redirection.ts';
import { type IpAddress, parseIp } from '../../core/ip.ts';
import { fieldOf, listOf, textOf } from './object-fields.ts';
import type { NamespaceFacts, PodFacts, WrittenStatus } from './pod-directory.ts';
import { readProbePorts } from './probe-ports.ts';

/** Kubelet writes it on the API's image of a static pod: the UID the runtime knows that pod by. */
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

/** All annotations that decide about enrolment; others are not kept. */
export const READ_ANNOTATIONS: readonly string[] = [
  SIDECAR_STATUS_ANNOTATION,
  BYPASS_INBOUND_ANNOTATION,
  DNS_CAPTURE_ANNOTATION,
  REROUTE_INTERFACES_ANNOTATION,
];

/** Throws an Error whose message names the field that does not fit. */
export function readPodFacts(object: unknown): PodFacts {
  const metadata = fieldOf(object, 'metadata');
  const spec = fieldOf(object, 'spec');
  const status = fieldOf(object, 'status');
  const annotations = strings(metadata, 'annotations');
  const phase = textOf(status, 'phase');
  return {
    namespace: textOf(metadata, 'namespace') ?? 'default',
    name: nameOf(object),
    uid: textOf(metadata, 'uid'),
    staticUid: annotations[MIRROR_ANNOTATION],
    nodeName: textOf(spec, 'nodeName'),
    serviceAccount: textOf(spec, 'serviceAccountName') ?? 'default',
    hostNetwork: fieldOf(spec, 'hostNetwork') === true,
    labels: strings(metadata, 'labels'),
    annotations: only(annotations, READ_ANNOTATIONS),
    ips: addresses(status),
    terminal: phase === 'Succeeded' || phase === 'Failed',
    probePorts: readProbePorts(spec),
    written: readWritten(annotations, status),
  };
}

/** Throws an Error whose message names the field that does not fit. */
export function readNamespaceFacts(object: unknown): NamespaceFacts {
  return { name: nameOf(object), labels: strings(fieldOf(object, 'metadata'), 'labels') };
}

function nameOf(object: unknown): string {
  const value = textOf(fieldOf(object, 'metadata'), 'name');
  if (value === undefined) throw new Error('metadata.name is missing');
  return value;
}

/** `status.podIPs`, or `status.podIP` where only that is given. */
function addresses(status: unknown): IpAddress[] {
  const several = listOf(status, 'podIPs').map((entry) => fieldOf(entry, 'ip'));
  const list = several.length > 0 ? several : [fieldOf(status, 'podIP')];
  return list.flatMap((entry) => (typeof entry === 'string' ? (parseIp(entry) ?? []) : []));
}

function readWritten(annotations: Labels, status: unknown): WrittenStatus {
  const condition = listOf(status, 'conditions').find((entry) => fieldOf(entry, 'type') === ENROLLED_CONDITION);
  return {
    redirection: annotations[REDIRECTION_ANNOTATION],
    condition:
      condition === undefined
        ? undefined
        : ['status', 'reason', 'message'].map((key) => textOf(condition, key) ?? '').join(' '),
  };
}

/** A map of texts without a prototype: keys come from outside. */
function strings(parent: unknown, key: string): Labels {
  const value = fieldOf(parent, key);
  const result: Record<string, string> = Object.create(null);
  if (value === undefined || value === null) return result;
  if (typeof value !== 'object' || Array.isArray(value)) throw new Error(`metadata.${key} must be a map`);
  for (const [label, entry] of Object.entries(value)) {
    if (typeof entry !== 'string') throw new Error(`metadata.${key}.${label} must be text (put it in quotes)`);
    result[label] = entry;
  }
  return result;
}

function only(all: Labels, names: readonly string[]): Labels {
  const result: Record<string, string> = Object.create(null);
  for (const name of names) {
    const value = all[name];
    if (value !== undefined) result[name] = value;
  }
  return result;
}
