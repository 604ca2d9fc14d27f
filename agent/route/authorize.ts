import type { AmbitError } from '../../core/errors.ts';
import type { IpAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Workload } from '../state/workload.ts';

/** What a policy can look at. */
export interface ConnectionFacts {
  /** The proven identity of the client; undefined for plaintext. */
  readonly source: SpiffeId | undefined;
  readonly sourceIp: IpAddress;
  /** The final address at the workload, after every mapping. */
  readonly destinationIp: IpAddress;
  readonly destinationPort: number;
}

export type Verdict =
  /** `policy` is the ALLOW policy that matched; undefined when none exists for the workload. */
  | { readonly kind: 'allow'; readonly policy: string | undefined }
  /** `policy` is the DENY policy that matched or the unknown one; undefined when no ALLOW policy matched. */
  | { readonly kind: 'deny'; readonly error: AmbitError; readonly policy: string | undefined };

export function authorize(_state: MeshState, _local: Workload, _facts: ConnectionFacts): Verdict {
  return { kind: 'allow', policy: undefined };
}
