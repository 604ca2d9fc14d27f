/**
 * Takes the taint off a node once the agent on it is ready, so that no pod starts there before it can be captured.
 *
 * A node that comes back with the taint (an administrator, or a node pool that sets it at every start) is looked at
 * again. The patch states the taints that it replaces: a change in between makes it fail and be tried again.
 */
import { isRecord } from '../../core/decoder.ts';
import { logger } from '../../core/log.ts';
import type { KubeClient } from '../../kube/client.ts';
import { RESOURCES } from '../../kube/resource.ts';
import type { ObjectChange, ObjectStore } from '../model/object-store.ts';
import { QueuedTask } from './queued-task.ts';

const log = logger('leader');

export interface UntaintRules {
  /** Keys of the taints. */
  readonly nodeTaints: readonly string[];
  /** `<namespace>/<service account>` of agents. */
  readonly agentAccounts: readonly string[];
}

export class NodeUntaint extends QueuedTask {
  readonly name = 'untaint';
  readonly #client: KubeClient;
  readonly #store: ObjectStore;
  readonly #taints: ReadonlySet<string>;
  readonly #accounts: ReadonlySet<string>;

  constructor(client: KubeClient, store: ObjectStore, rules: UntaintRules) {
    super();
    this.#client = client;
    this.#store = store;
    this.#taints = new Set(rules.nodeTaints);
    this.#accounts = new Set(rules.agentAccounts);
  }

  protected begin(): void {
    for (const node of this.#store.all('Node')) if (this.#isDue(node.meta.name)) this.add(node.meta.name);
  }

  changed(changes: readonly ObjectChange[]): void {
    for (const { after } of changes) {
      const node = after?.kind === 'Node' ? after.meta.name : after?.kind === 'Pod' ? after.nodeName : '';
      if (node !== '' && this.#isDue(node)) this.add(node);
    }
  }

  protected async run(name: string, signal: AbortSignal): Promise<void> {
    if (!this.#isDue(name)) return;
    const node = await this.#client.find(RESOURCES.Node, '', name, { signal });
    const taints = isRecord(node?.spec) ? node.spec.taints : undefined;
    if (!Array.isArray(taints)) return;
    const kept = taints.filter((taint: unknown) => !this.#isOurs(taint));
    if (kept.length === taints.length) return;
    const patch = [
      { op: 'test', path: '/spec/taints', value: taints },
      { op: 'replace', path: '/spec/taints', value: kept },
    ];
    await this.#client.jsonPatch(RESOURCES.Node, '', name, patch, { signal });
    log.info({ node: name }, 'node untainted: its agent is ready');
  }

  /** The node has one of the taints, and its agent is ready. */
  #isDue(name: string): boolean {
    const node = this.#store.find('Node', '', name);
    if (node === undefined || !node.taints.some((taint) => this.#taints.has(taint))) return false;
    for (const pod of this.#store.podsOnNode(name)) {
      const account = `${pod.meta.namespace}/${pod.serviceAccount}`;
      if (pod.ready && !pod.meta.deleting && this.#accounts.has(account)) return true;
    }
    return false;
  }

  #isOurs(taint: unknown): boolean {
    return isRecord(taint) && typeof taint.key === 'string' && this.#taints.has(taint.key);
  }
}
