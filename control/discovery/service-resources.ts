/** Services and hosts of ServiceEntries as resources, with the conditions of both. */

import type { Service } from '../objects/service.ts';
import type { ServiceEntry } from '../objects/service-entry.ts';
import type { ObjectCondition } from './condition.ts';
import type { Conditions } from './conditions.ts';
import type { HostIndex } from './host-index.ts';
import type { MeshView } from './mesh-view.ts';
import { ADDRESS_TYPE, type ResourceUpdate, serviceResource } from './resource.ts';
import { buildService } from './service.ts';
import { buildServiceEntryHost, waypointMissing } from './service-entry.ts';
import { visibilityCondition } from './service-visibility.ts';
import { bindWaypoint, type WaypointBinding } from './waypoint-binding.ts';

export class ServiceResources {
  readonly #view: MeshView;
  readonly #hosts: HostIndex;
  readonly #conditions: Conditions;

  constructor(view: MeshView, hosts: HostIndex, conditions: Conditions) {
    this.#view = view;
    this.#hosts = hosts;
    this.#conditions = conditions;
  }

  /** The resource `<namespace>/<host>`, of whatever answers for the host there. */
  buildHost(namespace: string, host: string): ResourceUpdate {
    const name = `${namespace}/${host}`;
    const owner = this.#hosts.owner(namespace, host);
    const around = this.#view.findNamespace(namespace);
    const { settings } = this.#view;
    if (owner === undefined) return { type: ADDRESS_TYPE, name, resource: undefined };
    if (owner.kind === 'service') {
      const binding = bindWaypoint(owner.service.meta, 'service', this.#view);
      const built = buildService(owner.service, around, binding, settings);
      return { type: ADDRESS_TYPE, name, resource: built && serviceResource(built) };
    }
    const { entry } = owner;
    const facts = {
      namespace: around,
      binding: this.#bindEntry(entry),
      visibility: this.#hosts.visibility(entry),
      canonical: this.#hosts.isCanonical(entry, host),
    };
    return { type: ADDRESS_TYPE, name, resource: serviceResource(buildServiceEntryHost(entry, host, facts, settings)) };
  }

  /** Reads what is said of a Service anew. */
  refreshServiceConditions(namespace: string, name: string): void {
    const service = this.#view.store.find('Service', namespace, name);
    this.#conditions.set(`Service/${namespace}/${name}`, [service && this.#serviceCondition(service)]);
  }

  /** Reads what is said of a ServiceEntry anew. */
  refreshEntryConditions(namespace: string, name: string): void {
    const entry = this.#view.store.find('ServiceEntry', namespace, name);
    this.#conditions.set(`ServiceEntry/${namespace}/${name}`, entry === undefined ? [] : this.#entryConditions(entry));
  }

  #serviceCondition(service: Service): ObjectCondition | undefined {
    if (service.type === 'ExternalName') return aliasCondition(service);
    return bindWaypoint(service.meta, 'service', this.#view).condition;
  }

  #entryConditions(entry: ServiceEntry): (ObjectCondition | undefined)[] {
    const visibility = this.#hosts.visibility(entry);
    const binding = this.#bindEntry(entry);
    return [
      binding.condition,
      waypointMissing(entry, binding),
      visibilityCondition(this.#view.meshConfig, visibility, entry.meta.namespace),
    ];
  }

  #bindEntry(entry: ServiceEntry): WaypointBinding {
    const isPrivate = this.#hosts.visibility(entry) === 'namespace';
    return bindWaypoint(entry.meta, 'service', this.#view, isPrivate ? entry.meta.namespace : '');
  }
}

/** Only of an ExternalName service that asks for a waypoint itself: that of the namespace passes it over in silence. */
function aliasCondition(service: Service): ObjectCondition | undefined {
  const asked = service.meta.labels.get('istio.io/use-waypoint') ?? '';
  if (asked === '' || asked === 'none') return undefined;
  return {
    type: 'istio.io/WaypointBound',
    status: 'False',
    reason: 'UnsupportedTrafficType',
    message:
      'An ExternalName Service is only another name: label the Service or ServiceEntry that it stands for. Traffic goes directly.',
  };
}
