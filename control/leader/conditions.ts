/**
 * Conditions of an object as they shall stand in its status: which field manager writes which of them, and what a
 * server-side apply has to say. Pure.
 */
import type { ObjectCondition } from '../discovery/condition.ts';
import type { ObjectKind } from '../objects/object.ts';

/** A condition as it stands in `.status.conditions`. */
export interface StatusCondition extends ObjectCondition {
  /** RFC 3339: when `status` became what it is. */
  readonly lastTransitionTime: string;
  /** Generation of the object that the condition speaks of; absent for kinds that have none. */
  readonly observedGeneration?: number;
}

/** One writer of conditions of one kind: what it applies replaces everything that it applied before. */
export interface ConditionManager {
  readonly fieldManager: string;
  owns(type: string): boolean;
}

const ALL = (): boolean => true;
const WAYPOINT_POLICY = 'WaypointAccepted';

const MANAGERS = {
  Service: [{ fieldManager: 'istio-ambient-service', owns: ALL }],
  ServiceEntry: [{ fieldManager: 'istio-ambient-service', owns: ALL }],
  WorkloadEntry: [{ fieldManager: 'istio-ambient-workloadentry', owns: ALL }],
  AuthorizationPolicy: [
    { fieldManager: 'istio-ambient-ztunnel-policy', owns: (type: string) => type !== WAYPOINT_POLICY },
    { fieldManager: 'istio-ambient-waypoint-policy', owns: (type: string) => type === WAYPOINT_POLICY },
  ],
  PeerAuthentication: [{ fieldManager: 'istio-ambient-ztunnel-policy', owns: ALL }],
} as const satisfies Partial<Record<ObjectKind, readonly ConditionManager[]>>;

export type KindWithConditions = keyof typeof MANAGERS;

/** Kinds whose conditions are written. */
export const KINDS_WITH_CONDITIONS: readonly KindWithConditions[] = [
  'Service',
  'ServiceEntry',
  'WorkloadEntry',
  'AuthorizationPolicy',
  'PeerAuthentication',
];

/** Who writes conditions on objects of a kind. */
export function conditionManagers(kind: KindWithConditions): readonly ConditionManager[] {
  return MANAGERS[kind];
}

export interface ConditionState {
  readonly desired: readonly ObjectCondition[];
  /** All that stand in the status now, of whatever writer. */
  readonly current: readonly StatusCondition[];
  /** Types that this manager wrote before. */
  readonly written: ReadonlySet<string>;
  /** Of the object that `desired` was made from. */
  readonly generation: number | undefined;
  /** RFC 3339. */
  readonly now: string;
}

/**
 * All that one manager has to apply, sorted by type; undefined when that is what stands already. An empty list takes away
 * what the manager wrote before.
 */
export function conditionsToApply(
  manager: ConditionManager,
  { desired, current, written, generation, now }: ConditionState,
): readonly StatusCondition[] | undefined {
  const standing = new Map(current.map((condition) => [condition.type, condition]));
  const own = desired.filter(({ type }) => manager.owns(type)).toSorted((a, b) => (a.type < b.type ? -1 : 1));
  const next = own.map((condition): StatusCondition => {
    const before = standing.get(condition.type);
    const lastTransitionTime = before?.status === condition.status ? before.lastTransitionTime : now;
    const observed = generation === undefined ? {} : { observedGeneration: generation };
    const { type, status, reason, message } = condition;
    return { type, status, reason, message, lastTransitionTime, ...observed };
  });
  const types = new Set(next.map(({ type }) => type));
  const leftOver = [...written].some((type) => manager.owns(type) && !types.has(type));
  const same = next.every(
    (condition) => written.has(condition.type) && isSame(condition, standing.get(condition.type)),
  );
  return same && !leftOver ? undefined : next;
}

function isSame(a: StatusCondition, b: StatusCondition | undefined): boolean {
  return (
    b !== undefined &&
    a.status === b.status &&
    a.reason === b.reason &&
    a.message === b.message &&
    a.observedGeneration === b.observedGeneration
  );
}
