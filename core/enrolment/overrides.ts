/**
 * Per-pod annotations that change how a pod's traffic is captured (Istio's names and values). A change applies to running pods.
 * Values nobody understands are problems the operator hears of, and leave the default in force.
 */
import type { Labels } from './label-selector.ts';

export const BYPASS_INBOUND_ANNOTATION = 'ambient.istio.io/bypass-inbound-capture';
export const DNS_CAPTURE_ANNOTATION = 'ambient.istio.io/dns-capture';
export const REROUTE_INTERFACES_ANNOTATION = 'istio.io/reroute-virtual-interfaces';

/** Most interfaces one annotation may name; more is refused as a problem. */
const MAX_INTERFACES = 32;
/** Linux interface names: at most 15 bytes, no blank and no slash; quotes and backslashes would break out of a rule. */
const INTERFACE_NAME = /^[A-Za-z0-9_.:@-]{1,15}$/;

export interface TrafficOverrides {
  /** False for pods that serve traffic from outside the mesh themselves: outbound is captured, inbound is not. */
  readonly captureInbound: boolean;
  /** Interfaces inside the pod whose arriving traffic counts as outbound (virtual machines, nested containers). */
  readonly virtualInterfaces: readonly string[];
}

export const NO_OVERRIDES: TrafficOverrides = { captureInbound: true, virtualInterfaces: [] };

export interface OverridesResult {
  readonly overrides: TrafficOverrides;
  /** One sentence per annotation value that was not used. */
  readonly problems: readonly string[];
}

export function readOverrides(annotations: Labels): OverridesResult {
  const problems: string[] = [];
  const bypass = annotations[BYPASS_INBOUND_ANNOTATION];
  if (bypass !== undefined && bypass !== 'true' && bypass !== 'false') {
    problems.push(`${BYPASS_INBOUND_ANNOTATION} must be "true" or "false"`);
  }
  if (annotations[DNS_CAPTURE_ANNOTATION] === 'true') {
    problems.push(`${DNS_CAPTURE_ANNOTATION} asks for what does not exist here: queries for names go on as they are`);
  }
  const virtualInterfaces: string[] = [];
  for (const part of (annotations[REROUTE_INTERFACES_ANNOTATION] ?? '').split(',')) {
    const name = part.trim();
    if (name === '' || virtualInterfaces.includes(name)) continue;
    if (!INTERFACE_NAME.test(name)) {
      problems.push(
        `${REROUTE_INTERFACES_ANNOTATION} names ${JSON.stringify(name.slice(0, 32))}, which is not an interface`,
      );
    } else if (virtualInterfaces.length === MAX_INTERFACES) {
      problems.push(`${REROUTE_INTERFACES_ANNOTATION} names more than ${MAX_INTERFACES} interfaces`);
      break;
    } else {
      virtualInterfaces.push(name);
    }
  }
  return { overrides: { captureInbound: bypass !== 'true', virtualInterfaces }, problems };
}
