/**
 * What a subscription reads the store with. There are two: `LogReader` for clients that get everything they may see, which
 * remembers a position and nothing per resource, and `TrackedReader` for those that ask by name, which remembers what it sent.
 */
import type { Resource } from '../discovery/resource.ts';
import type { DiscoveryRequest } from './discovery-request.ts';
import type { ResourceStore } from './resource-store.ts';
import type { Response } from './response.ts';
import type { ServedType } from './served-types.ts';

/** What a client may see. */
export type View = (resource: Pick<Resource, 'privateTo'>) => boolean;

export interface ReaderLimits {
  /** A response is closed when its resources reach this size, bytes. */
  readonly responseBytes: number;
  /** Entries of the log, or of a request, that are looked at in one step. */
  readonly stepEntries: number;
}

export const READER_LIMITS: ReaderLimits = { responseBytes: 1024 * 1024, stepEntries: 2000 };

export interface ReaderContext {
  readonly store: ResourceStore;
  readonly type: ServedType;
  readonly limits: ReaderLimits;
  /** Names this process in every response. */
  readonly replica: string;
}

/** `more`: nothing to send yet, but the step was used up; ask again. */
export type Step =
  | { readonly kind: 'response'; readonly response: Response }
  | { readonly kind: 'more' }
  | { readonly kind: 'idle' };

export interface Reader {
  /** Number of the last change that this reader does not need from the log any more. */
  readonly position: number;
  /** True until everything that can be sent was sent. */
  readonly hasNews: boolean;
  /** True while a request is still being worked in; the next one waits for that. */
  readonly isBusy: boolean;
  /** True while removals wait that an earlier step was told to hold. */
  readonly holdsRemovals: boolean;
  /** One bounded piece of work. `holdRemovals`: removals wait for a later step. */
  step(holdRemovals: boolean): Step;
  /** Takes over what the client says it holds, in later steps. Call it at most once, before the first step. */
  resume(request: DiscoveryRequest): void;
  /** Sends what these keys mean: what the client lacks, or, with `again`, also what was sent before. */
  ask(keys: readonly string[], again: boolean): void;
  /** Names that the client has, that are gone or hidden from it, and that it was not told of. Call it to take over from a reader. */
  untold(): Iterable<string>;
  /** Tells of these removals too, unless they are there again. Call it before the first step. */
  owe(removals: Iterable<string>): void;
  /** The client does not want these keys any more. */
  drop(keys: readonly string[]): void;
  /** Resources and removals that are not sent yet, an estimate above a thousand; and since when the oldest waits. */
  behind(): { readonly resources: number; readonly sinceMs: number };
}

/** True when a removed or present resource is one that `type` shows. */
export function shows(type: ServedType, resource: Resource | undefined): boolean {
  return resource !== undefined && type.content(resource) !== undefined;
}

/** Entries after `position`, counted exactly up to a thousand, and when the first of them was published. */
export function behindIn(store: ResourceStore, position: number): { resources: number; sinceMs: number } {
  const first = store.indexAfter(position);
  let resources = 0;
  let sinceMs = Number.POSITIVE_INFINITY;
  for (let index = first; index < store.length; index++) {
    if (resources >= 1000) return { resources: resources + store.length - index, sinceMs };
    const entry = store.at(index);
    if (entry?.latest !== true) continue;
    resources++;
    sinceMs = Math.min(sinceMs, entry.atMs);
  }
  return { resources, sinceMs };
}
