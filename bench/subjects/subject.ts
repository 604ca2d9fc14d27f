/**
 * What is measured: something between a client's namespace and a server's. A subject gets a pair of namespaces of its own
 * for the whole run, in which the servers run already, and says where clients shall connect.
 *
 * `--peer <file.mjs>` loads a further subject from outside: the module's default export is a `Subject`.
 */

import type { PairIdentities } from '../identities.ts';
import type { Pair } from '../namespaces.ts';

export interface Subject {
  /** Column of the report. */
  readonly name: string;
  readonly about: string;
  start(world: SubjectWorld): Promise<RunningSubject>;
}

export interface SubjectWorld extends Pair {
  readonly clientAddress: string;
  readonly serverAddress: string;
  /** Ports the servers listen on, at every address of the server's namespace: HTTP (nginx) and iperf3. */
  readonly httpPort: number;
  readonly throughputPort: number;
  /** A folder of this subject's own, removed at the end. */
  readonly folder: string;
  /** Files with keys and certificates of both sides, from one root. */
  readonly identities: PairIdentities;
}

export interface RunningSubject {
  /** `ip:port` parts a client in `world.client` connects to in order to reach the server's port. */
  address(port: number): { readonly ip: string; readonly port: number };
  /** The processes whose CPU time and memory count. */
  readonly proxies: readonly { readonly name: string; readonly pid: number }[];
  /** Ends them; the namespaces are removed by the caller. */
  stop(): Promise<void>;
}
