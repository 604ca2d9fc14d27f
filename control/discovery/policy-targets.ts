/** What stands behind the targetRefs of a policy: which waypoint or gateway enforces it, or why none does. Pure. */
import type { PolicyTarget } from '../objects/authorization-policy.ts';
import type { TargetState } from '../policy/targets.ts';
import type { MeshView } from './mesh-view.ts';
import { bindWaypoint, type WaypointBinding } from './waypoint-binding.ts';

/** @param namespace that of the policy, where its targets are */
export function findPolicyTarget(target: PolicyTarget, namespace: string, view: MeshView): TargetState {
  const { store } = view;
  switch (target.kind) {
    case 'Service': {
      const service = store.find('Service', namespace, target.name);
      return service === undefined ? { kind: 'missing' } : behind(bindWaypoint(service.meta, 'service', view));
    }
    case 'ServiceEntry': {
      const entry = store.find('ServiceEntry', namespace, target.name);
      return entry === undefined ? { kind: 'missing' } : behind(bindWaypoint(entry.meta, 'service', view));
    }
    case 'Gateway': {
      const gateway = store.find('Gateway', namespace, target.name);
      if (gateway === undefined) return { kind: 'missing' };
      if (gateway.addresses.length === 0) return { kind: 'unbound', reason: 'has no address yet' };
      return { kind: 'bound', by: `${namespace}/${target.name}` };
    }
    case 'GatewayClass': {
      const { rootNamespace } = view.settings;
      if (store.find('GatewayClass', '', target.name) === undefined) return { kind: 'missing' };
      if (namespace === rootNamespace) return { kind: 'bound', by: `every Gateway of class ${target.name}` };
      return { kind: 'unbound', reason: `counts only for policies in namespace ${rootNamespace}` };
    }
    default:
      return { kind: 'unknown' };
  }
}

function behind({ waypoint }: WaypointBinding): TargetState {
  if (waypoint === undefined) return { kind: 'unbound', reason: 'is not behind a waypoint' };
  return { kind: 'bound', by: `${waypoint.namespace}/${waypoint.name}` };
}
