/**
 * A real Kubernetes cluster for one test file. By default the two-node bed of test/cluster, started for the file and
 * ended with it; with `npm test -- cluster --kubeconfig FILE` a cluster that is there already (kind, for example), of
 * which only what the test applied is removed. Every command has a time limit, and a wait that fails says what the
 * cluster looks like.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { KubeClient } from '../../kube/client.ts';
import { CLUSTER_CACHE, clusterBinary, findOnPath } from './cluster-binaries.ts';
import { textAt, valueAt } from './kube-api-call.ts';
import { ROOT } from './source-files.ts';

const BED = join(ROOT, 'test', 'cluster', 'bed');
const START_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 60_000;
const WAIT_SECONDS = 120;
/** Output of a command that is kept. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

export interface ClusterOptions {
  /** Bed only: the reference plugin that connects pods. Default bridge. */
  readonly podNet?: 'bridge' | 'ptp';
  /** Bed only: what kube-proxy writes. Default nftables. */
  readonly proxyMode?: 'nftables' | 'iptables';
  /** Bed only: further flags of kube-apiserver. */
  readonly apiServerArgs?: readonly string[];
}

export interface CommandOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
}

/** Why a test that needs the bed itself (its files, its nodes' power) cannot run, or undefined. */
export function bedObstacle(): string | undefined {
  return process.env.AMBIT_TEST_KUBECONFIG === undefined ? undefined : 'needs the bed, not another cluster';
}

/** Resolves when every node is Ready; nothing is left behind when it fails. */
export async function openCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const kubeconfig = process.env.AMBIT_TEST_KUBECONFIG;
  if (kubeconfig !== undefined) return new ExistingCluster(kubeconfig);
  const bed = new Bed(options);
  try {
    await bed.startNodes();
    return bed;
  } catch (error) {
    await bed[Symbol.asyncDispose]();
    throw error;
  }
}

export abstract class Cluster implements AsyncDisposable {
  readonly kubeconfig: string;
  #admin: KubeClient | undefined;

  constructor(kubeconfig: string) {
    this.kubeconfig = kubeconfig;
  }

  /** A command in a node, as root; its standard output. */
  abstract nodeExec(node: string, command: readonly string[], options?: CommandOptions): Promise<string>;
  /** Makes an image known to every node: a name in the store of `bed build`, or an archive file. */
  abstract loadImage(image: string): Promise<void>;
  abstract [Symbol.asyncDispose](): Promise<void>;

  /** The client of an administrator; closed with the cluster. */
  admin(): KubeClient {
    this.#admin ??= KubeClient.open({ kubeconfig: this.kubeconfig, userAgent: 'ambit-test' });
    return this.#admin;
  }

  /** Standard output; throws with standard error. */
  kubectl(args: readonly string[], options?: CommandOptions): Promise<string> {
    return this.#tool('kubectl', args, options);
  }

  helm(args: readonly string[], options?: CommandOptions): Promise<string> {
    return this.#tool('helm', args, options);
  }

  /** Creates or changes the objects. */
  async apply(...objects: readonly object[]): Promise<void> {
    const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
    await this.kubectl(['apply', '-f', '-'], { input: list });
  }

  /** A command in the first container of a pod, or of a workload (`deploy/web`). */
  podExec(namespace: string, pod: string, command: readonly string[], options?: CommandOptions): Promise<string> {
    return this.kubectl(['exec', '-n', namespace, pod, '--', ...command], options);
  }

  /** Waits for a Deployment, DaemonSet or StatefulSet to be what it is told to be (`deploy/web`). */
  async waitForRollout(namespace: string, workload: string, seconds = WAIT_SECONDS): Promise<void> {
    const args = ['rollout', 'status', '-n', namespace, workload, `--timeout=${seconds}s`];
    await this.#orDescribe(namespace, this.kubectl(args, { timeoutMs: (seconds + 10) * 1000 }));
  }

  /** Waits for a condition as `kubectl wait --for` takes it: `condition=Ready`, `delete`, `jsonpath=...`. */
  async waitFor(namespace: string, object: string, condition: string, seconds = WAIT_SECONDS): Promise<void> {
    const args = ['wait', '-n', namespace, object, `--for=${condition}`, `--timeout=${seconds}s`];
    await this.#orDescribe(namespace, this.kubectl(args, { timeoutMs: (seconds + 10) * 1000 }));
  }

  /** Names of the nodes. */
  async nodes(): Promise<string[]> {
    return (await this.#items(['get', 'nodes'])).map((node) => textAt(node, 'metadata', 'name'));
  }

  /** The pods of a selection, as the API server shows them. */
  pods(namespace: string, labelSelector: string): Promise<unknown[]> {
    return this.#items(['get', 'pods', '-n', namespace, '-l', labelSelector]);
  }

  /** What a person would look at first when something in a namespace does not start. */
  async describe(namespace: string): Promise<string> {
    const look = (args: readonly string[]): Promise<string> => this.kubectl(args).catch(String);
    return [
      await look(['get', 'nodes', '-o', 'wide']),
      await look(['get', 'pods', '-n', namespace, '-o', 'wide']),
      await look(['get', 'events', '-n', namespace, '--sort-by=.lastTimestamp']),
    ].join('\n');
  }

  protected closeClient(): void {
    this.#admin?.close();
    this.#admin = undefined;
  }

  #tool(name: 'kubectl' | 'helm', args: readonly string[], options?: CommandOptions): Promise<string> {
    const program = process.env.AMBIT_TEST_KUBECONFIG === undefined ? clusterBinary(name) : (findOnPath(name) ?? name);
    return run(program, args, { ...options, environment: { KUBECONFIG: this.kubeconfig } });
  }

  async #items(args: readonly string[]): Promise<unknown[]> {
    const list: unknown = JSON.parse(await this.kubectl([...args, '-o', 'json']));
    const items = valueAt(list, 'items');
    return Array.isArray(items) ? items : [];
  }

  async #orDescribe(namespace: string, wait: Promise<unknown>): Promise<void> {
    try {
      await wait;
    } catch (error) {
      throw new Error(`${String(error)}\n${await this.describe(namespace)}`, { cause: error });
    }
  }
}

/** The two nodes of test/cluster under a name of their own. */
export class Bed extends Cluster {
  readonly name: string;
  /** Folder of its state; `<state>/<node>/` has the files of a node. */
  readonly state: string;
  readonly #environment: Readonly<Record<string, string>>;
  /** Somebody else's, who ends it (`AMBIT_TEST_BED`, for writing tests). */
  readonly #given: boolean;

  constructor({ podNet = 'bridge', proxyMode = 'nftables', apiServerArgs = [] }: ClusterOptions) {
    const given = process.env.AMBIT_TEST_BED;
    const name = given ?? `t${process.pid}`;
    const state = join(process.env.AMBIT_BED_STATE ?? join(CLUSTER_CACHE, 'run'), name);
    super(join(state, 'kubeconfig'));
    this.name = name;
    this.state = state;
    this.#given = given !== undefined;
    this.#environment = {
      AMBIT_BED: name,
      // Who finds it without its owner ends it (`bed reclaim`); and it ends with the process group of the test.
      ...(this.#given ? {} : { AMBIT_BED_OWNER: String(process.pid), AMBIT_BED_ATTACHED: '1' }),
      AMBIT_BED_POD_NET: podNet,
      AMBIT_BED_PROXY_MODE: proxyMode,
      AMBIT_BED_APISERVER_ARGS: apiServerArgs.join(' '),
    };
  }

  /** Starts what does not run: everything, or a node that was killed. */
  async startNodes(): Promise<void> {
    await this.#bed(['up'], { timeoutMs: START_TIMEOUT_MS });
  }

  /** As if its power had failed. */
  async killNode(node: string): Promise<void> {
    await this.#bed(['kill', node]);
  }

  /** Nobody answers on the API server's address until `startNodes`. */
  async killApiServer(): Promise<void> {
    await this.#bed(['kill', 'kube-apiserver']);
  }

  nodeExec(node: string, command: readonly string[], options?: CommandOptions): Promise<string> {
    return this.#bed(['exec', node, ...command], options);
  }

  /** A command in the network of the control plane, from which nodes, pods and services are reached. */
  outside(command: readonly string[], options?: CommandOptions): Promise<string> {
    return this.#bed(['outside', ...command], options);
  }

  async loadImage(image: string): Promise<void> {
    await this.#bed(['load', image], { timeoutMs: START_TIMEOUT_MS });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeClient();
    if (!this.#given) await this.#bed(['down']);
  }

  #bed(args: readonly string[], options?: CommandOptions): Promise<string> {
    return run(BED, args, { ...options, environment: this.#environment });
  }
}

/** A cluster of somebody else. Nodes are entered and loaded as kind does it; another way is given in the environment. */
class ExistingCluster extends Cluster {
  /** `docker exec NODE COMMAND...`, or the command in AMBIT_TEST_NODE_EXEC with node and command behind it. */
  nodeExec(node: string, command: readonly string[], options?: CommandOptions): Promise<string> {
    const [program = '', ...args] = words(process.env.AMBIT_TEST_NODE_EXEC ?? 'docker exec -i');
    return run(program, [...args, node, ...command], options);
  }

  /** `kind load image-archive FILE`, or the command in AMBIT_TEST_LOAD_IMAGE with the file behind it. */
  async loadImage(image: string): Promise<void> {
    const [program = '', ...args] = words(process.env.AMBIT_TEST_LOAD_IMAGE ?? 'kind load image-archive');
    await run(program, [...args, image], { timeoutMs: START_TIMEOUT_MS });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeClient();
  }
}

interface RunOptions extends CommandOptions {
  readonly environment?: Readonly<Record<string, string>>;
}

/** Standard output; throws an Error whose message is the command and standard error. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const { input = '', timeoutMs = COMMAND_TIMEOUT_MS, environment = {} } = options;
  const child = execFile(
    program,
    [...args],
    {
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      maxBuffer: MAX_OUTPUT_BYTES,
      env: { ...process.env, ...environment },
    },
    (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ${args.join(' ')}: ${stderr || error.message}${stdout}`, { cause: error }));
    },
  );
  child.stdin?.on('error', () => {
    // The command ended without reading; its own failure is what counts.
  });
  child.stdin?.end(input);
  return promise;
}

function words(text: string): string[] {
  return text.split(' ').filter((word) => word !== '');
}
