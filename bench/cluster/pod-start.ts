/** How long a new pod takes to be Ready, in the mesh and outside of it, one after another on alternating nodes. */
import type { Cluster } from '../../test/support/cluster.ts';
import { NAMESPACES, startingPod } from './world.ts';

export interface PodStart {
  readonly mesh: boolean;
  /** From `kubectl apply` to the end of `kubectl wait`, both programs' start included. */
  readonly ms: number;
}

export async function measurePodStarts(cluster: Cluster, podsEach: number): Promise<PodStart[]> {
  const nodes = await cluster.nodes();
  const starts: PodStart[] = [];
  for (let index = 0; index < podsEach; index++) {
    for (const within of NAMESPACES) {
      const name = `start-${index}`;
      const began = performance.now();
      await cluster.apply(startingPod(within, name, nodes[index % nodes.length] ?? ''));
      await cluster.waitFor(within, `pod/${name}`, 'condition=Ready');
      starts.push({ mesh: within === 'load-mesh', ms: Math.round(performance.now() - began) });
      await cluster.kubectl(['delete', 'pod', '-n', within, name, '--wait=false', '--grace-period=0']);
    }
  }
  return starts;
}
