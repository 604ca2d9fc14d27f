/** PeerAuthentication (security.istio.io): the mTLS mode of a mesh, a namespace or selected workloads and their ports. */
import { type Decoder, mapped, object, oneOf, optional, record } from '../../core/decoder.ts';
import { metadata, type ObjectMeta, workloadSelector } from './metadata.ts';

export type MtlsMode = 'UNSET' | 'DISABLE' | 'PERMISSIVE' | 'STRICT';

export interface PeerAuthentication {
  readonly kind: 'PeerAuthentication';
  readonly meta: ObjectMeta;
  /** Undefined: the whole namespace, or the mesh when it is in the root namespace. */
  readonly selector: ReadonlyMap<string, string> | undefined;
  readonly mode: MtlsMode;
  /** Modes of single ports of the workload (not of its services). Only with a selector. */
  readonly ports: ReadonlyMap<number, MtlsMode>;
  /** What is wrong with the object that this one stands in for (policy-stand-in.ts); undefined for one as written. */
  readonly standsInFor?: string;
}

const mutualTls = mapped(
  object({ mode: optional(oneOf('UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT')) }, 'refuse'),
  (wire): MtlsMode => wire.mode ?? 'UNSET',
);

export const peerAuthentication: Decoder<PeerAuthentication> = mapped(
  object(
    {
      metadata: metadata('namespaced'),
      spec: optional(
        object(
          {
            selector: optional(workloadSelector),
            mtls: optional(mutualTls),
            portLevelMtls: optional(record(mutualTls)),
          },
          'refuse',
        ),
      ),
    },
    'ignore',
  ),
  ({ metadata: meta, spec }, path, report) => {
    const selector = spec?.selector === undefined || spec.selector.size === 0 ? undefined : spec.selector;
    const ports = new Map<number, MtlsMode>();
    for (const [key, mode] of spec?.portLevelMtls ?? []) {
      const port = /^[1-9][0-9]{0,4}$/.test(key) ? Number(key) : Number.NaN;
      if (port <= 65_535) ports.set(port, mode);
      else report([...path, 'spec', 'portLevelMtls', key], 'must be a port number from 1 to 65535');
    }
    if (ports.size > 0 && selector === undefined) {
      report([...path, 'spec', 'portLevelMtls'], 'needs a selector with at least one label');
    }
    return { kind: 'PeerAuthentication', meta, selector, mode: spec?.mtls ?? 'UNSET', ports };
  },
);
