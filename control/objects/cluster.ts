/** Namespace, Node and ServiceAccount: small objects of which the mesh reads names, labels and annotations. */
import { type Decoder, mapped, object } from '../../core/decoder.ts';
import { metadata, type ObjectMeta } from './metadata.ts';

export interface Namespace {
  readonly kind: 'Namespace';
  readonly meta: ObjectMeta;
}

export interface Node {
  readonly kind: 'Node';
  readonly meta: ObjectMeta;
}

export interface ServiceAccount {
  readonly kind: 'ServiceAccount';
  readonly meta: ObjectMeta;
}

const clusterScoped = object({ metadata: metadata('cluster') }, 'ignore');
const namespaced = object({ metadata: metadata('namespaced') }, 'ignore');

export const namespace: Decoder<Namespace> = mapped(clusterScoped, (wire) => ({
  kind: 'Namespace',
  meta: wire.metadata,
}));
export const node: Decoder<Node> = mapped(clusterScoped, (wire) => ({ kind: 'Node', meta: wire.metadata }));
export const serviceAccount: Decoder<ServiceAccount> = mapped(namespaced, (wire) => ({
  kind: 'ServiceAccount',
  meta: wire.metadata,
}));
