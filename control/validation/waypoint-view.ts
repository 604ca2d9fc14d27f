/** Waypoints as the checks see them: discovery's own binding, asked about the objects of a view. */

import { gatewayRole, readWaypoint } from '../discovery/waypoint.ts';
import { bindWaypoint, type WaypointBinding, type WaypointLookup } from '../discovery/waypoint-binding.ts';
import type { PolicyTarget } from '../objects/authorization-policy.ts';
import type { Gateway } from '../objects/gateway.ts';
import type { ObjectMeta } from '../objects/metadata.ts';
import type { TargetLookup, TargetState } from '../policy/targets.ts';
import type { AnalysisView } from './view.ts';

type Bindable = Parameters<typeof bindWaypoint>[0];

export function waypointLookup(view: AnalysisView): WaypointLookup {
  const classOf = (gateway: Gateway) => view.objects.find('GatewayClass', '', gateway.className);
  return {
    findWaypoint(namespace, name) {
      const gateway = view.objects.find('Gateway', namespace, name);
      return gateway === undefined ? undefined : readWaypoint(programmed(gateway, view), classOf(gateway), '');
    },
    isMeshGateway(namespace, name) {
      const gateway = view.objects.find('Gateway', namespace, name);
      return gateway !== undefined && gatewayRole(gateway, classOf(gateway)) !== undefined;
    },
    findNamespace: (name) => view.objects.find('Namespace', '', name),
  };
}

/** Files have no status: what they describe is judged as it will be. */
function programmed(gateway: Gateway, view: AnalysisView): Gateway {
  if (view.complete || gateway.addresses.length > 0) return gateway;
  return { ...gateway, addresses: [{ type: 'Hostname', value: `${gateway.meta.name}.${gateway.meta.namespace}` }] };
}

export function bindingOf(meta: Bindable, traffic: 'service' | 'workload', view: AnalysisView): WaypointBinding {
  return bindWaypoint(meta, traffic, waypointLookup(view));
}

/** What stands in front of the targets of a policy. */
export function targetLookup(view: AnalysisView): TargetLookup {
  return (target: PolicyTarget, namespace: string): TargetState => {
    switch (target.kind) {
      case 'Service':
      case 'ServiceEntry': {
        if (!view.knows(target.kind)) return { kind: 'unknown' };
        const found = view.objects.find(target.kind, namespace, target.name);
        return found === undefined ? { kind: 'missing' } : behind(found.meta, view);
      }
      case 'Gateway': {
        if (!view.knows('Gateway')) return { kind: 'unknown' };
        const found = view.objects.find('Gateway', namespace, target.name);
        return found === undefined ? { kind: 'missing' } : { kind: 'bound', by: `${namespace}/${target.name}` };
      }
      case 'GatewayClass': {
        if (namespace !== view.settings.rootNamespace) {
          return { kind: 'unbound', reason: `counts only in the root namespace ${view.settings.rootNamespace}` };
        }
        if (!view.knows('GatewayClass')) return { kind: 'unknown' };
        const found = view.objects.find('GatewayClass', '', target.name);
        return found === undefined ? { kind: 'missing' } : { kind: 'bound', by: `every Gateway of ${target.name}` };
      }
      default:
        return { kind: 'unbound', reason: 'is no Service, ServiceEntry, Gateway or GatewayClass' };
    }
  };
}

function behind(meta: ObjectMeta, view: AnalysisView): TargetState {
  const { waypoint, condition } = bindingOf(meta, 'service', view);
  if (waypoint !== undefined) return { kind: 'bound', by: `${waypoint.namespace}/${waypoint.name}` };
  if (condition === undefined) return { kind: 'unbound', reason: 'has no waypoint' };
  return { kind: 'unbound', reason: `has no waypoint that can be used (${condition.reason})` };
}
