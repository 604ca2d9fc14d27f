/** Whether anything of ours stands in the rules of a node: asked after they were removed. Throws `RULES` or `NETNS`. */
import { NetworkNamespace } from '../../reactor/netns.ts';
import { HOST_TABLE } from './host-rules.ts';
import { runNft } from './nft.ts';

export async function findHostRules(hostNetns: string): Promise<boolean> {
  const netns = NetworkNamespace.openPath(hostNetns);
  try {
    const tables = await runNft(netns, ['list', 'tables']);
    return tables.split('\n').some((line) => line.trimEnd().endsWith(` ${HOST_TABLE}`));
  } finally {
    netns.close();
  }
}
