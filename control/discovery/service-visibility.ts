/**
 * Who sees a ServiceEntry, by `MeshConfig.serviceEntryVisibility`: the first policy whose rules all match the
 * namespace of the entry decides, else the default. Without that setting everybody sees everything. Pure.
 */
import type { Namespace } from '../objects/cluster.ts';
import { matchesLabels } from '../objects/label-selector.ts';
import type { MeshConfig } from '../objects/mesh-config.ts';
import type { ObjectCondition } from './condition.ts';

export type EntryVisibility = 'public' | 'namespace' | 'none';

export function entryVisibility(config: MeshConfig | undefined, namespace: Namespace | undefined): EntryVisibility {
  const rules = config?.serviceEntryVisibility;
  if (rules === undefined) return 'public';
  const labels = namespace?.meta.labels ?? new Map<string, string>();
  for (const policy of rules.policies) {
    const matches = policy.matchingRules.every(
      ({ namespaceSelector }) => namespaceSelector === undefined || matchesLabels(namespaceSelector, labels),
    );
    if (matches) return VISIBILITY[policy.visibility];
  }
  return VISIBILITY[rules.defaultVisibility];
}

/** Undefined while the mesh has no such setting. */
export function visibilityCondition(
  config: MeshConfig | undefined,
  visibility: EntryVisibility,
  namespace: string,
): ObjectCondition | undefined {
  if (config?.serviceEntryVisibility === undefined) return undefined;
  const type = 'istio.io/VisibilityApplied';
  switch (visibility) {
    case 'public':
      return { type, status: 'True', reason: 'Public', message: 'Every client of the mesh sees it.' };
    case 'namespace':
      return { type, status: 'True', reason: 'Namespace', message: `Only clients in namespace ${namespace} see it.` };
    case 'none':
      return { type, status: 'True', reason: 'None', message: 'Nobody sees it: MeshConfig forbids it here.' };
  }
}

const VISIBILITY = { PUBLIC: 'public', NAMESPACE: 'namespace', NONE: 'none' } as const;
