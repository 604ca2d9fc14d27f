/** What the API server says about the conditions of an object: those that stand, and who applied which of them. Pure. */
import { decode, integer, isRecord, list, object, optional, string, withDefault } from '../../core/decoder.ts';
import type { KubeObject } from '../../kube/object.ts';
import type { StatusCondition } from './conditions.ts';

const condition = object(
  {
    type: string,
    status: string,
    reason: withDefault(string, ''),
    message: withDefault(string, ''),
    lastTransitionTime: withDefault(string, ''),
    observedGeneration: optional(integer(0, Number.MAX_SAFE_INTEGER)),
  },
  'ignore',
);
const status = object({ conditions: withDefault(list(condition), []) }, 'ignore');
/** Conditions that stand in the status; those that cannot be read are left out, so that they are written again. */
export function standingConditions(found: KubeObject): readonly StatusCondition[] {
  const decoded = decode(status, found.status ?? {});
  if (!decoded.ok) return [];
  return decoded.value.conditions.flatMap(({ status: state, observedGeneration, ...rest }) => {
    if (state !== 'True' && state !== 'False') return [];
    return [{ ...rest, status: state, ...(observedGeneration === undefined ? {} : { observedGeneration }) }];
  });
}

/**
 * Types of the conditions that `fieldManager` has applied. Where a schema keeps the list as a whole (no map by type), the
 * manager owns all or nothing: then all that stand.
 */
export function appliedTypes(found: KubeObject, fieldManager: string): ReadonlySet<string> {
  const { managedFields } = found.metadata;
  const types = new Set<string>();
  for (const entry of Array.isArray(managedFields) ? managedFields : []) {
    if (!isRecord(entry) || entry.manager !== fieldManager || entry.operation !== 'Apply') continue;
    const fields = isRecord(entry.fieldsV1) ? entry.fieldsV1['f:status'] : undefined;
    const conditions = isRecord(fields) ? fields['f:conditions'] : undefined;
    if (!isRecord(conditions)) continue;
    const keys = Object.keys(conditions).filter((key) => key.startsWith('k:'));
    if (keys.length === 0) for (const { type } of standingConditions(found)) types.add(type);
    for (const key of keys) {
      const type = typeOfKey(key.slice(2));
      if (type !== undefined) types.add(type);
    }
  }
  return types;
}

/** `{"type":"Accepted"}` to `Accepted`. */
function typeOfKey(text: string): string | undefined {
  try {
    const key: unknown = JSON.parse(text);
    return isRecord(key) && typeof key.type === 'string' ? key.type : undefined;
  } catch {
    return undefined;
  }
}
