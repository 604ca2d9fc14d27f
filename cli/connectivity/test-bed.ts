/**
 * The pods of `ambit test connectivity` in a cluster: made, waited for, told what to do, and removed with their namespace.
 * Everything goes through the API server: objects, and the control port of the clients by `pods/portforward`.
 */
import { readFile } from 'node:fs/promises';
import { boolean, decode, integer, list, object, optional, string, withDefault } from '../../core/decoder.ts';
import { ENROLLED_CONDITION, REDIRECTION_ANNOTATION } from '../../core/enrolment/redirection.ts';
import { AmbitError } from '../../core/errors.ts';
import { isConflict, isNotFound } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { type KubeObject, kubeObject } from '../../kube/object.ts';
import { getPodPage } from '../../kube/pod-http.ts';
import { RESOURCES, type Resource } from '../../kube/resource.ts';
import { annotationOf, conditionOf, labelOf, listAt, numberAt, textAt } from '../check/fields.ts';
import type { Say } from '../progress.ts';
import { CONTROL_PORT, TEST_LABEL, TEST_LABEL_VALUE, type TestPlan, testObjects } from './objects.ts';

const LOOK_INTERVAL_MS = 250;
const READY_WITHIN_MS = 120_000;
const GONE_WITHIN_MS = 60_000;
const ANSWER_WITHIN_MS = 30_000;

const milliseconds = (value: unknown): number => (typeof value === 'number' ? value : 0);
const calls = list(
  object(
    {
      ok: boolean,
      ms: milliseconds,
      detail: withDefault(string, ''),
      server: optional(string),
      peer: optional(string),
    },
    'ignore',
  ),
);
const count = integer(0, Number.MAX_SAFE_INTEGER);
const loadState = object(
  {
    requests: count,
    failures: count,
    longestMs: milliseconds,
    lastFailure: withDefault(string, ''),
    streams: list(object({ url: string, lines: count, breaks: count, lastBreak: withDefault(string, '') }, 'ignore')),
  },
  'ignore',
);

export interface Call {
  readonly ok: boolean;
  readonly ms: number;
  readonly detail: string;
  readonly server: string | undefined;
  readonly peer: string | undefined;
}

export interface LoadState {
  readonly requests: number;
  readonly failures: number;
  readonly longestMs: number;
  readonly lastFailure: string;
  readonly streams: readonly {
    readonly url: string;
    readonly lines: number;
    readonly breaks: number;
    readonly lastBreak: string;
  }[];
}

export class TestBed {
  readonly plan: TestPlan;
  readonly #client: KubeClient;
  readonly #signal: AbortSignal;
  readonly #ips = new Map<string, string>();
  /** From the first object on: before, there is nothing of ours to remove. */
  #begun = false;

  constructor(client: KubeClient, plan: TestPlan, signal: AbortSignal) {
    this.plan = plan;
    this.#client = client;
    this.#signal = signal;
  }

  /** Makes everything and resolves when all pods run and are where they belong. Rejects with NOT_RUNNING saying why not. */
  async create(say: Say): Promise<void> {
    await this.#refuseForeign();
    const program = await readFile(new URL('./pod-program.ts', import.meta.url), 'utf8');
    this.#begun = true;
    for (const wanted of testObjects(this.plan, program)) await this.apply(wanted);
    let said = '';
    const waiting = async (): Promise<string> => {
      const text = await this.#missing();
      if (text !== said && text !== '') say(`  waiting: ${text}`);
      said = text;
      return text;
    };
    await this.#until(waiting, READY_WITHIN_MS);
    await this.#until(() => this.#silentClients(), READY_WITHIN_MS);
    for (const pod of await this.pods()) this.#ips.set(pod.metadata.name, textAt(pod, 'status', 'podIP'));
  }

  /** Removes the namespace and waits until it is gone; other objects are in it. A namespace of somebody else stays. */
  async remove(): Promise<void> {
    if (!this.#begun) return;
    const { namespace } = this.plan;
    try {
      await this.#client.delete(RESOURCES.Namespace, '', namespace);
    } catch (thrown) {
      if (!isNotFound(thrown) && !isConflict(thrown)) throw thrown;
    }
    const endMs = performance.now() + GONE_WITHIN_MS;
    while (performance.now() < endMs) {
      if ((await this.#client.find(RESOURCES.Namespace, '', namespace)) === undefined) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
    }
    throw new AmbitError('NOT_RUNNING', `namespace ${namespace} is not gone after ${GONE_WITHIN_MS / 1000} s`);
  }

  /** Is something of ours in the cluster? */
  get begun(): boolean {
    return this.#begun;
  }

  ipOf(pod: string): string {
    return this.#ips.get(pod) ?? '';
  }

  async pods(): Promise<KubeObject[]> {
    const { items } = await this.#client.list(RESOURCES.Pod, { namespace: this.plan.namespace });
    return items.flatMap((item) => kubeObject(item) ?? []);
  }

  async apply(wanted: object): Promise<void> {
    const kind = textAt(wanted, 'kind');
    const resource = Object.values<Resource>(RESOURCES).find((one) => one.kind === kind);
    if (resource === undefined) throw new AmbitError('USAGE', `no resource of kind ${kind}`);
    const namespace = textAt(wanted, 'metadata', 'namespace');
    const options = { fieldManager: 'ambit-test', force: true };
    await this.#client.apply(resource, namespace, textAt(wanted, 'metadata', 'name'), wanted, options);
  }

  /** What is not there is no error. */
  async delete(resource: Resource, name: string): Promise<void> {
    await this.#client.delete(resource, this.plan.namespace, name).catch((thrown: unknown) => {
      if (!isNotFound(thrown)) throw thrown;
    });
  }

  /** Calls one after another, each on a new connection. */
  async call(pod: string, url: string, times = 1): Promise<readonly Call[]> {
    const page = await this.#ask(pod, `/call?${new URLSearchParams({ url, count: String(times) })}`);
    const decoded = decode(calls, page);
    if (decoded.ok) return decoded.value;
    throw new AmbitError('NOT_RUNNING', `the client ${pod} gave no list of calls`);
  }

  /** Opens a stream that stays; resolves to `open`, or to why not. */
  async hold(pod: string, url: string): Promise<string> {
    return textAt(await this.#ask(pod, `/hold?${new URLSearchParams({ url })}`), 'state');
  }

  async release(pod: string): Promise<void> {
    await this.#ask(pod, '/release');
  }

  /** Begins requests and a stream to each URL, which go on without us; later calls tell how it goes. */
  async load(pod: string, urls: readonly string[]): Promise<LoadState> {
    const query = new URLSearchParams(urls.map((url) => ['url', url]));
    const decoded = decode(loadState, await this.#ask(pod, `/load?${query}`));
    if (decoded.ok) return decoded.value;
    throw new AmbitError('NOT_RUNNING', `the client ${pod} gave no state of its load`);
  }

  /** Pods that are not as planned, by the reason; empty when all are. */
  async #missing(): Promise<string> {
    const pods = await this.pods();
    const byReason = new Map<string, string[]>();
    for (const { name, inMesh } of this.plan.pods) {
      const pod = pods.find(({ metadata }) => metadata.name === name);
      const reason = pod === undefined ? 'not there' : whyNot(pod, inMesh);
      if (reason !== undefined) byReason.set(reason, [...(byReason.get(reason) ?? []), name]);
    }
    return [...byReason].map(([reason, names]) => `${names.join(', ')}: ${reason}`).join('; ');
  }

  /** Clients have no probe: nothing of them is served to others. */
  async #silentClients(): Promise<string> {
    const clients = this.plan.pods.filter(({ role }) => role === 'client');
    const answers = await Promise.allSettled(clients.map(({ name }) => this.#ask(name, '/report')));
    const silent = clients.filter((_, index) => answers[index]?.status === 'rejected');
    return silent.length === 0 ? '' : `${silent.map(({ name }) => name).join(', ')}: does not answer`;
  }

  /** Repeats `look` until it returns an empty text, or rejects with the last text. */
  async #until(look: () => Promise<string>, withinMs: number): Promise<void> {
    const endMs = performance.now() + withinMs;
    for (;;) {
      this.#signal.throwIfAborted();
      const text = await look();
      if (text === '') return;
      if (performance.now() > endMs) throw new AmbitError('NOT_RUNNING', `after ${withinMs / 1000} s: ${text}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
    }
  }

  async #ask(pod: string, path: string): Promise<unknown> {
    const { namespace } = this.plan;
    return await getPodPage(this.#client, { namespace, pod, port: CONTROL_PORT }, path, ANSWER_WITHIN_MS);
  }

  async #refuseForeign(): Promise<void> {
    const { namespace } = this.plan;
    const found = await this.#client.find(RESOURCES.Namespace, '', namespace);
    if (found === undefined || labelOf(found, TEST_LABEL) === TEST_LABEL_VALUE) return;
    throw new AmbitError('USAGE', `namespace ${namespace} is not of this test: --test-namespace names another`);
  }
}

/** Undefined for a pod that is as it should be. */
export function whyNot(pod: KubeObject, inMesh: boolean): string | undefined {
  for (const status of listAt(pod, 'status', 'containerStatuses')) {
    const reason = textAt(status, 'state', 'waiting', 'reason');
    if (reason !== '' && reason !== 'ContainerCreating')
      return `${reason} ${textAt(status, 'state', 'waiting', 'message')}`.trim();
  }
  if (inMesh) {
    const redirected = annotationOf(pod, REDIRECTION_ANNOTATION) === 'enabled';
    const enrolled = listAt(pod, 'status', 'conditions').find((one) => textAt(one, 'type') === ENROLLED_CONDITION);
    if (!redirected || textAt(enrolled, 'status') !== 'True') {
      return enrolled === undefined ? 'not in the mesh yet' : textAt(enrolled, 'message');
    }
  } else if (annotationOf(pod, REDIRECTION_ANNOTATION) !== undefined) return 'in the mesh although it should not be';
  return conditionOf(pod, 'Ready') === 'True' ? undefined : 'not ready yet';
}

export function restartsOf(pod: KubeObject): number {
  return listAt(pod, 'status', 'containerStatuses').reduce(
    (sum: number, one) => sum + numberAt(one, 'restartCount'),
    0,
  );
}
