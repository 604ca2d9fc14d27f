/** Namespace, Node and ServiceAccount: small objects of which the mesh reads names, labels and annotations. */
import { type Decoder, list, mapped, object, string, withDefault } from '../../core/decoder.ts';
import { metadata, type ObjectMeta } from './metadata.ts';

export interface Namespace {
  readonly kind: 'Namespace';
  readonly meta: ObjectMeta;
}

export interface Node {
  readonly kind: 'Node';
  readonly meta: ObjectMeta;
  /** Keys of its taints. */
  readonly taints: readonly string[];
}

export interface ServiceAccount {
  readonly kind: 'ServiceAccount';
  readonly meta: ObjectMeta;
}

const clusterScoped = object({ metadata: metadata('cluster') }, 'ignore');
const namespaced = object({ metadata: metadata('namespaced') }, 'ignore');
const nodeShape = object(
  {
    metadata: metadata('cluster'),
    spec: withDefault(object({ taints: withDefault(list(object({ key: string }, 'ignore')), []) }, 'ignore'), {
      taints: [],
    }),
  },
  'ignore',
);

export const namespace: Decoder<Namespace> = mapped(clusterScoped, (wire) => ({
  kind: 'Namespace',
  meta: wire.metadata,
}));
export const node: Decoder<Node> = mapped(nodeShape, (wire) => ({
  kind: 'Node',
  meta: wire.metadata,
  taints: wire.spec.taints.map(({ key }) => key),
}));
export const serviceAccount: Decoder<ServiceAccount> = mapped(namespaced, (wire) => ({
  kind: 'ServiceAccount',
  meta: wire.metadata,
}));
