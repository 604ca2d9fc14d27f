/**
 * When roots are made, sign and go. Pure: everything follows from the list of roots and the clock.
 *
 *   created ── distributed in the bundle ──> signs ── the next one signs ──> only trusted ── its leaves expired ──> gone
 *
 * A new root is in every bundle for `distributionMs` before it signs, so that no peer meets a leaf whose root it has
 * not been told of; an old root stays until nothing it signed can still be valid.
 */
export interface RootLifetime {
  readonly id: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** It signs from this moment on, until the next root does. */
  readonly signsFromMs: number;
}

export interface RotationPolicy {
  readonly rootLifetimeMs: number;
  /** A successor is made when less than this share of the signing root's life is left. */
  readonly renewalShare: number;
  /** How long a new root is distributed before it signs: every agent renews once meanwhile, at half life at the latest. */
  readonly distributionMs: number;
  /** No leaf lives longer. */
  readonly maxLeafLifetimeMs: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export const ROTATION_POLICY: RotationPolicy = {
  rootLifetimeMs: 3650 * DAY_MS,
  renewalShare: 0.2,
  distributionMs: 45 * DAY_MS,
  maxLeafLifetimeMs: 90 * DAY_MS,
};

export type RotationStep =
  | { readonly kind: 'create'; readonly signsFromMs: number }
  | { readonly kind: 'remove'; readonly id: string };

/**
 * The root that signs now: of those that may, the one that began last; when none may yet, the one that will first.
 * Undefined when none is valid.
 */
export function signingRoot<R extends RootLifetime>(roots: readonly R[], nowMs: number): R | undefined {
  const valid = roots.filter((root) => root.notAfterMs > nowMs).sort((a, b) => a.signsFromMs - b.signsFromMs);
  return valid.findLast((root) => root.signsFromMs <= nowMs) ?? valid[0];
}

/**
 * The next thing to do, undefined when all is well. Do it and ask again. A root that has expired goes when its leaves
 * could have: kept, it harms nobody, and the clock that says so may be wrong.
 */
export function nextRotationStep(
  roots: readonly RootLifetime[],
  nowMs: number,
  policy: RotationPolicy,
): RotationStep | undefined {
  const current = signingRoot(roots, nowMs);
  // Nothing can sign: waiting for the distribution of a new root would only prolong that.
  if (current === undefined) return { kind: 'create', signsFromMs: nowMs };
  const obsolete = roots.find((root) => root !== current && isObsolete(root, roots, nowMs, policy));
  if (obsolete !== undefined) return { kind: 'remove', id: obsolete.id };
  if (roots.some((root) => root.signsFromMs > current.signsFromMs)) return undefined;
  const life = current.notAfterMs - current.notBeforeMs;
  if (current.notAfterMs - nowMs >= life * policy.renewalShare) return undefined;
  return { kind: 'create', signsFromMs: successorSignsFrom(current, nowMs, policy) };
}

/** A step that an operator asks for: a successor now, whatever the age of the signing root. */
export function forcedRotationStep(
  roots: readonly RootLifetime[],
  nowMs: number,
  policy: RotationPolicy,
): RotationStep | undefined {
  const current = signingRoot(roots, nowMs);
  if (current === undefined) return nextRotationStep(roots, nowMs, policy);
  if (roots.some((root) => root.signsFromMs > current.signsFromMs)) return undefined;
  return { kind: 'create', signsFromMs: successorSignsFrom(current, nowMs, policy) };
}

/** A root close to its end cannot wait for the whole distribution. */
function successorSignsFrom(current: RootLifetime, nowMs: number, policy: RotationPolicy): number {
  const latest = nowMs + (current.notAfterMs - nowMs) / 2;
  return Math.floor(Math.min(nowMs + policy.distributionMs, latest));
}

/** A successor has signed for so long that every leaf of this root has expired. */
function isObsolete(
  root: RootLifetime,
  roots: readonly RootLifetime[],
  nowMs: number,
  policy: RotationPolicy,
): boolean {
  return roots.some(
    (other) => other.signsFromMs > root.signsFromMs && other.signsFromMs + policy.maxLeafLifetimeMs <= nowMs,
  );
}
