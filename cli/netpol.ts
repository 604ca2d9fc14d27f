/** `ambit netpol companion <namespace/name>`: the NetworkPolicies that let tunnels reach what another one guards, as YAML. */
import { Command } from 'commander';
import { analyze } from '../control/validation/analyze.ts';
import { AmbitError } from '../core/errors.ts';
import { KubeClient } from '../kube/client.ts';
import { readCluster } from './analyze/cluster.ts';
import { type ClusterOptions, clusterOptions, userAgent } from './cluster.ts';
import { type OutputFormat, outputOption, printResult } from './output.ts';

export function netpolCommand(): Command {
  const companion = new Command('companion')
    .description('Print what has to stand beside a NetworkPolicy so that tunnels (TCP 15008) reach its pods')
    .argument('<policy>', 'NetworkPolicy as namespace/name');
  return new Command('netpol').description('NetworkPolicies and the mesh').addCommand(
    clusterOptions(companion)
      .addOption(outputOption())
      .action(async (policy: string, options: ClusterOptions & { readonly output: OutputFormat }) => {
        const { kubeconfig, context, namespace } = options;
        const client = KubeClient.open({ kubeconfig, context, userAgent });
        try {
          const { view } = await readCluster(client, namespace, undefined);
          const companions = analyze(view).flatMap(({ object, companion: text }) =>
            object === `NetworkPolicy/${policy}` && text !== undefined ? [text] : [],
          );
          if (companions.length === 0) {
            throw new AmbitError(
              'USAGE',
              `NetworkPolicy ${policy} keeps no tunnel from pods of the mesh, or does not exist`,
            );
          }
          printResult(options.output, companions, (texts) => texts.join('---\n'));
        } finally {
          client.close();
        }
      }),
  );
}
