/**
 * What a control plane says of itself in `ControlPlane.identifier` of discovery responses: its component and replica, in
 * the form that istiod uses, and, of our own, whether further responses follow before the client has everything. A
 * client that does not know the mark takes every response as complete, as it would without it.
 */

/** @param more further responses of this type follow until the client has everything */
export function formatControlPlaneIdentifier(replica: string, more: boolean): string {
  return JSON.stringify({ Component: 'ambit-control', ID: replica, ...(more ? { More: true } : {}) });
}

/** False for whatever is no such mark. */
export function moreFollows(identifier: string): boolean {
  if (!identifier.startsWith('{') || identifier.length > MAX_LENGTH) return false;
  try {
    const value: unknown = JSON.parse(identifier);
    return typeof value === 'object' && value !== null && 'More' in value && value.More === true;
  } catch {
    return false;
  }
}

const MAX_LENGTH = 4096;
