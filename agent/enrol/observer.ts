/** What enrolment tells about pods: for the status that people and the control plane read. Telling never blocks. */

export interface PodName {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export type EnrolmentReport =
  /** Captured and served. `selfTest`: `passed`, `running`, or why a connection of the pod did not arrive. */
  | { readonly kind: 'enrolled'; readonly selfTest: string }
  /** Wanted and not captured (yet): tried again until it succeeds. */
  | { readonly kind: 'pending'; readonly code: string; readonly detail: string }
  /** New connections are plain; those that stand are carried until they end. */
  | { readonly kind: 'leaving'; readonly detail: string }
  /** Nothing of ours is in the pod. */
  | { readonly kind: 'gone' }
  /** Its labels ask for the mesh, and something else rules that out. */
  | { readonly kind: 'outside'; readonly reason: string; readonly detail: string };

export interface EnrolmentObserver {
  podChanged(pod: PodName, report: EnrolmentReport): void;
}

/** Nobody listens: agents without an API server. */
export const NO_OBSERVER: EnrolmentObserver = { podChanged: () => undefined };
