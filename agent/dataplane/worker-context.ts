/** What every connection of one worker shares. One object per worker; the parts are described where they are made. */

import type { TunnelPool } from '../../hbone/pool.ts';
import type { HboneServer } from '../../hbone/server.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import type { RouteSettings } from '../route/outbound.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { ConnectionSeats } from './connection-seats.ts';
import type { DryRunReport } from './dry-run-report.ts';
import type { IdentityStore } from './identity-store.ts';
import type { LocalPod } from './local-pod.ts';
import type { PodTable } from './pod-table.ts';
import type { Recorder } from './recorder.ts';
import type { WaitQueue } from './wait-queue.ts';
import type { WorkerSettings } from './worker-settings.ts';

export interface WorkerContext {
  readonly loop: EventLoop;
  readonly settings: WorkerSettings;
  readonly state: MeshState;
  readonly routeSettings: RouteSettings;
  readonly pods: PodTable;
  readonly identities: IdentityStore;
  readonly pool: TunnelPool;
  readonly server: HboneServer<LocalPod>;
  readonly recorder: Recorder;
  readonly dryRuns: DryRunReport;
  /** Keys: `workloadKey`, `identityKey`, `RESOURCES_KEY`. */
  readonly waits: WaitQueue;
  readonly seats: ConnectionSeats;
}
