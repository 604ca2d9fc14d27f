/**
 * The types clients can subscribe to, and which stored resources each of them shows. `istio.workload.Workload` is a view
 * of the addresses: only workloads, without the envelope that tells them from services.
 */
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, type Resource, type ResourceType } from '../discovery/resource.ts';

export const WORKLOAD_TYPE = 'type.googleapis.com/istio.workload.Workload';

export interface ServedType {
  readonly url: string;
  /** Where its resources are stored. */
  readonly stored: ResourceType;
  /** The encoded content; undefined for a resource that this type does not show. */
  readonly content: (resource: Resource) => Uint8Array | undefined;
}

const whole = (resource: Resource): Uint8Array => resource.bytes;

/** In the order in which responses are sent: a policy is announced before the workloads that name it. */
export const SERVED_TYPES: readonly ServedType[] = [
  { url: AUTHORIZATION_TYPE, stored: AUTHORIZATION_TYPE, content: whole },
  { url: ADDRESS_TYPE, stored: ADDRESS_TYPE, content: whole },
  { url: WORKLOAD_TYPE, stored: ADDRESS_TYPE, content: ({ bytes }) => workloadIn(bytes) },
];

export function findServedType(url: string): ServedType | undefined {
  return SERVED_TYPES.find((type) => type.url === url);
}

/** Tag of `Address.workload`, the only field of an address that holds a workload. */
const WORKLOAD_TAG = (1 << 3) | 2;

function workloadIn(address: Uint8Array): Uint8Array | undefined {
  if (address[0] !== WORKLOAD_TAG) return undefined;
  let at = 1;
  while ((address[at] ?? 0) >= 128) at++;
  return address.subarray(at + 1);
}
