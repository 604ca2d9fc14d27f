/** What the processes of the control plane benchmark say to each other. Times are nanoseconds of the machine's clock. */
import type { MeshSize } from './mesh-objects.ts';

export type ToServer =
  | { readonly kind: 'start'; readonly size: MeshSize; readonly certificate: string; readonly key: string }
  /** Scales one service up or down by a few pods. */
  | { readonly kind: 'scale'; readonly event: number; readonly pods: number }
  | { readonly kind: 'usage' }
  | { readonly kind: 'collect' };

export type FromServer =
  | { readonly kind: 'serving'; readonly port: number; readonly readyMs: number; readonly resources: number }
  | { readonly kind: 'scaled'; readonly event: number; readonly atNs: string }
  | { readonly kind: 'usage'; readonly usage: ServerUsage };

export interface ServerUsage {
  readonly cpuMs: number;
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly bytesSent: number;
  readonly clients: number;
  readonly synced: number;
  readonly longestTurnMs: number;
}

export type ToAgents =
  | { readonly kind: 'connect'; readonly port: number; readonly rootsPem: string; readonly agents: number }
  | { readonly kind: 'reconnect' }
  | { readonly kind: 'report' };

export type FromAgents =
  /** All agents hold everything that there was. */
  | { readonly kind: 'synced'; readonly ms: number; readonly bytes: number; readonly resources: number }
  /** When the resources of one event were there, at each agent that saw it. */
  | { readonly kind: 'report'; readonly bytes: number; readonly arrivals: Readonly<Record<string, readonly string[]>> };

/** Part of the names of pods that event `event` adds, and after which agents know it. */
export function eventMark(event: number): string {
  return `event-${event}-`;
}
