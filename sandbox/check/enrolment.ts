/** Pods came into the mesh through the CNI call, and only those that should. */
import { isRecord } from '../../core/decoder.ts';
import { runCommand } from '../command.ts';
import type { Check } from './check.ts';
import { type CheckContext, expect } from './context.ts';

const ENROLLED = ['shop/frontend', 'shop/catalog-v1', 'shop/catalog-v2', 'shop/stock'];
const OUTSIDE = 'legacy/cron';

export const enrolmentChecks: readonly Check[] = [
  {
    id: 'enrol.cni',
    async run(context) {
      for (const key of ENROLLED) {
        const pod = context.pod(key);
        expect(pod.enrolled && (await redirects(context, key)), `${key} is captured after CNI ADD`);
        const result = pod.network?.result ?? {};
        expect(Array.isArray(result.interfaces) && Array.isArray(result.ips), `${key}: ADD passed the result on`);
      }
      expect(!(await redirects(context, OUTSIDE)), `${OUTSIDE} is left alone`);
      return `${ENROLLED.length} pods captured, ${OUTSIDE} untouched`;
    },
  },
  {
    id: 'enrol.check',
    async run(context) {
      for (const key of ENROLLED) {
        const pod = context.pod(key);
        if (pod.network !== undefined) await context.sandbox.kubelet.runtimeOf(pod).check(pod.container, pod.network);
      }
      return `CNI CHECK confirms ${ENROLLED.length} pods`;
    },
  },
  {
    id: 'enrol.announced',
    async run(context) {
      const dump = await context.admin('a', '/config_dump');
      const list: readonly unknown[] = isRecord(dump) && Array.isArray(dump.workloads) ? dump.workloads : [];
      const protocolOf = (name: string): unknown =>
        list.filter(isRecord).find((workload) => workload.name === name)?.protocol;
      for (const key of ENROLLED) {
        const name = key.split('/')[1] ?? '';
        expect(protocolOf(name) === 'HBONE', `${name} is announced with HBONE, not ${String(protocolOf(name))}`);
      }
      expect(protocolOf('cron') === 'TCP', `cron is announced with TCP, not ${String(protocolOf('cron'))}`);
      return 'control announces HBONE for captured pods only';
    },
  },
];

async function redirects(context: CheckContext, key: string): Promise<boolean> {
  const answer = await runCommand(['nft', 'list', 'ruleset'], { netns: context.pod(key).netns });
  return answer.stdout.includes('table inet ambit') && answer.stdout.includes('redirect');
}
