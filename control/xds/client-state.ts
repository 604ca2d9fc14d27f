/** One client as operators see it: `ambit proxy-status`, the page of clients. Plain data, fit for JSON. */
export interface ClientState {
  /** Number of the stream in this process. */
  readonly stream: number;
  /** `<namespace>/<service account>`. */
  readonly caller: string;
  /** Empty where the caller is bound to none. */
  readonly node: string;
  /** Name of the pod the caller's proof is bound to; empty where nobody vouches for one. */
  readonly pod: string;
  readonly how: 'token' | 'certificate';
  /** What the client calls itself (`ztunnel~<ip>~<pod>.<namespace>~<domain>`). Proves nothing. */
  readonly nodeId: string;
  /** `ip:port`. */
  readonly peer: string;
  /** ISO 8601. */
  readonly connectedSince: string;
  readonly types: readonly ClientTypeState[];
  readonly bytesSent: number;
}

export interface ClientTypeState {
  readonly type: string;
  readonly mode: 'wildcard' | 'on demand';
  /** Names asked for. */
  readonly names: number;
  /** True when the client has acknowledged everything there is, the last part of a large answer included. */
  readonly synced: boolean;
  /** Versions are numbers of changes in this process: 0 before the first. */
  readonly servedVersion: number;
  readonly sentVersion: number;
  readonly ackedVersion: number;
  readonly ackedNonce: string;
  /** Resources and removals that were not sent yet; an estimate above a thousand. */
  readonly behind: number;
  /** How long the oldest of them has been waiting, or an answer has been owed, milliseconds. */
  readonly behindMs: number;
  readonly responses: number;
  readonly resources: number;
  /** The last response that the client refused. */
  readonly lastNack?: { readonly at: string; readonly nonce: string; readonly reason: string };
}
