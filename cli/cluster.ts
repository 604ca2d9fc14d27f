/** What commands about a cluster have in common: which cluster, as whom, and the namespace of the mesh. */
import type { Command } from 'commander';
import { AGENT_VERSION } from '../core/version.ts';

export interface ClusterOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace: string;
}

export const userAgent = `ambit/${AGENT_VERSION}`;

/** Adds `--kubeconfig`, `--context` and `--namespace`. */
export function clusterOptions(command: Command): Command {
  return command
    .option('--kubeconfig <path>', 'configuration of the cluster (default: KUBECONFIG, then ~/.kube/config)')
    .option('--context <name>', 'context of the configuration')
    .option('-n, --namespace <name>', 'namespace of the control plane', 'istio-system');
}
