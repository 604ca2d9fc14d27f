/**
 * The class of waypoints: made where it is missing, and told that it is accepted. Where the Gateway API is not installed
 * there is nothing to do until it is.
 */
import { isRecord } from '../../core/decoder.ts';
import { isNotFound } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { apiVersionOf, RESOURCES } from '../../kube/resource.ts';
import type { ObjectChange } from '../model/object-store.ts';
import { conditionsToApply } from './conditions.ts';
import { QueuedTask } from './queued-task.ts';
import { appliedTypes, standingConditions } from './standing-conditions.ts';

export const WAYPOINT_CLASS = 'istio-waypoint';
export const WAYPOINT_CONTROLLER = 'istio.io/mesh-controller';
const FIELD_MANAGER = 'ambit-control';
/** How often it is looked whether the Gateway API has been installed. */
const ABSENT_MS = 60_000;

const ACCEPTED = {
  type: 'Accepted',
  status: 'True',
  reason: 'Accepted',
  message: 'Gateways of this class are waypoints of the mesh.',
} as const;

export class GatewayClassTask extends QueuedTask {
  readonly name = 'gateway-class';
  readonly #client: KubeClient;

  constructor(client: KubeClient) {
    super();
    this.#client = client;
  }

  protected begin(): void {
    this.add(WAYPOINT_CLASS);
  }

  changed(changes: readonly ObjectChange[]): void {
    if (changes.some(({ key }) => key === `GatewayClass//${WAYPOINT_CLASS}`)) this.add(WAYPOINT_CLASS);
  }

  protected async run(name: string, signal: AbortSignal): Promise<void> {
    const resource = RESOURCES.GatewayClass;
    const head = { apiVersion: apiVersionOf(resource), kind: resource.kind, metadata: { name } };
    const options = { fieldManager: FIELD_MANAGER, force: true, signal };
    let found = await this.#client.find(resource, '', name, { signal });
    if (found === undefined) {
      const spec = { controllerName: WAYPOINT_CONTROLLER, description: 'Waypoints of the mesh' };
      try {
        found = await this.#client.apply(resource, '', name, { ...head, spec }, options);
      } catch (thrown) {
        if (!isNotFound(thrown)) throw thrown;
        this.addAfter(name, ABSENT_MS);
        return;
      }
    }
    // A class of somebody else's controller is theirs to accept.
    if (!isRecord(found.spec) || found.spec.controllerName !== WAYPOINT_CONTROLLER) return;
    const { generation } = found.metadata;
    const conditions = conditionsToApply(
      { fieldManager: FIELD_MANAGER, owns: () => true },
      {
        desired: [ACCEPTED],
        current: standingConditions(found),
        written: appliedTypes(found, FIELD_MANAGER),
        generation: typeof generation === 'number' ? generation : undefined,
        now: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
      },
    );
    if (conditions === undefined) return;
    await this.#client.apply(
      resource,
      '',
      name,
      { ...head, status: { conditions } },
      { ...options, subresource: 'status' },
    );
  }
}
