/** How an agent introduces itself to a control plane; istiod recognises the kind of proxy by the form of the id. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { NodeSchema } from '../../api/gen/envoy/config/core/v3/base_pb.js';

export interface AgentDescription {
  readonly nodeName: string;
  /** Of the agent's own pod. */
  readonly podName: string;
  readonly podNamespace: string;
  readonly instanceIp?: string | undefined;
  /** Further metadata, for example CLUSTER_ID and NETWORK. */
  readonly metadata?: Readonly<Record<string, string>>;
}

export function xdsNode(agent: AgentDescription): MessageInitShape<typeof NodeSchema> {
  const ip = agent.instanceIp ?? '1.1.1.1';
  return {
    id: `ztunnel~${ip}~${agent.podName}.${agent.podNamespace}~${agent.podNamespace}.svc.cluster.local`,
    metadata: {
      NAME: agent.podName,
      NAMESPACE: agent.podNamespace,
      INSTANCE_IPS: ip,
      NODE_NAME: agent.nodeName,
      ...agent.metadata,
    },
  };
}
