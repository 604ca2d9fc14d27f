/**
 * A real Kubernetes API server with a real etcd, on loopback, for one test file: RBAC and Node authorization, service
 * account tokens with bound pods, TokenReview, ClusterTrustBundles. There is no controller manager, no scheduler and no
 * kubelet: nothing creates service accounts in a new namespace (`namespace()` does), makes EndpointSlices, fills the
 * aggregated roles (`view`, `edit`), removes a pod that is bound to a node (delete it with gracePeriodSeconds 0) or
 * finishes deleting a namespace.
 *
 * Everything ends with `await using`, with the process of the test, or with the next run (see own-processes.ts).
 */
import { existsSync, globSync, readFileSync, rmSync } from 'node:fs';
import type { Agent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { KubeClient } from '../../kube/client.ts';
import { clusterBinary, findOnPath, missingBinaries } from './cluster-binaries.ts';
import { eventually } from './eventually.ts';
import { callJson, type EventStream, openEventStream, textAt, valueAt } from './kube-api-call.ts';
import { KubeApiFiles, type KubeUser } from './kube-api-files.ts';
import { freePort, makeRunFolder, OwnProcess } from './own-processes.ts';
import { ROOT } from './source-files.ts';

const START_TIMEOUT_MS = 60_000;
/** The issuer and, by default, the audience of service account tokens. */
export const TOKEN_ISSUER = 'https://kubernetes.default.svc.cluster.local';

export interface KubeApiOptions {
  /** False: without the definitions of api/crds. */
  readonly crds?: boolean;
  /** True: with the definitions of the Gateway API (standard channel). */
  readonly gatewayApi?: boolean;
  /** Further arguments of kube-apiserver; a flag given here wins over the fixture's. */
  readonly serverArgs?: readonly string[];
}

export interface TokenOptions {
  /** Default: the API server itself. */
  readonly audience?: string;
  /** Name of the pod the token is bound to; it must exist. */
  readonly boundPod?: string;
  /** Seconds; the API server accepts 600 and more. */
  readonly lifetimeSeconds?: number;
}

/** Why no API server can be started on this machine. */
export function kubeObstacle(): string | undefined {
  if (findOnPath('etcd') === undefined) return 'needs etcd (apt-get install etcd-server)';
  if (missingBinaries(['kube-apiserver']).length > 0 && findOnPath('go') === undefined) {
    return 'needs kube-apiserver, or a Go toolchain to build it (https://go.dev/dl)';
  }
  return undefined;
}

/** Resolves when the server is ready and its definitions are established; nothing is left behind when it fails. */
export async function openKubeApi(options: KubeApiOptions = {}): Promise<KubeApi> {
  if (missingBinaries(['kube-apiserver']).length > 0) {
    throw new Error('kube-apiserver has not been built: run test/cluster/build-binaries kube-apiserver');
  }
  const folder = makeRunFolder('ambit-kube');
  const [port, etcdPort, peerPort] = [await freePort(), await freePort(), await freePort()];
  const api = new KubeApi(folder, { port, etcdPort, peerPort }, options.serverArgs ?? []);
  try {
    await api.open();
    await api.createServiceAccount('default', 'default');
    const folders = [
      ...(options.crds === false ? [] : [join(ROOT, 'api', 'crds')]),
      ...(options.gatewayApi === true ? [gatewayApiDefinitions()] : []),
    ];
    await Promise.all(folders.map((crds) => api.applyDefinitions(crds)));
    return api;
  } catch (error) {
    await api[Symbol.asyncDispose]();
    throw error;
  }
}

/** Folder with the definitions of the Gateway API, which build-binaries fetched. */
export function gatewayApiDefinitions(): string {
  const folder = join(clusterBinary('kubectl'), '..', '..', 'gateway-api');
  if (!existsSync(folder)) throw new Error(`${folder} is missing: run test/cluster/build-binaries gateway-api`);
  return folder;
}

interface Ports {
  readonly port: number;
  readonly etcdPort: number;
  readonly peerPort: number;
}

export class KubeApi implements AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Path of the kubeconfig of an administrator. */
  readonly kubeconfig: string;
  readonly files: KubeApiFiles;
  readonly #ports: Ports;
  readonly #serverArgs: readonly string[];
  readonly #agent: Agent;
  #admin: KubeClient | undefined;
  #etcd: OwnProcess | undefined;
  #server: OwnProcess | undefined;

  constructor(folder: string, ports: Ports, serverArgs: readonly string[]) {
    this.#ports = ports;
    this.#serverArgs = serverArgs;
    this.port = ports.port;
    this.url = `https://127.0.0.1:${ports.port}`;
    this.files = new KubeApiFiles(folder, this.url);
    this.kubeconfig = this.files.certificateKubeconfig({ user: 'kubernetes-admin', groups: ['system:masters'] });
    const { authority, admin } = this.files;
    this.#agent = new TlsAgent({ ca: authority.pem, cert: admin.certificateChainPem, key: admin.privateKeyPem });
  }

  /** Starts etcd and the server. */
  async open(): Promise<void> {
    const { etcdPort, peerPort } = this.#ports;
    const client = `http://127.0.0.1:${etcdPort}`;
    const peer = `http://127.0.0.1:${peerPort}`;
    const etcd = new OwnProcess(this.files.folder, 'etcd', findOnPath('etcd') ?? 'etcd', [
      `--data-dir=${this.files.path('etcd')}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
      // The only member elects itself after the election timeout.
      '--heartbeat-interval=20',
      '--election-timeout=200',
      '--logger=zap',
      '--log-level=warn',
    ]);
    this.#etcd = etcd;
    await eventually(
      'etcd is healthy',
      async () => {
        etcd.requireAlive();
        await callJson(`${client}/health`, { method: 'GET' });
      },
      START_TIMEOUT_MS,
    );
    await this.startServer();
  }

  /** The client of an administrator; closed with the server. */
  admin(): KubeClient {
    this.#admin ??= KubeClient.open({ kubeconfig: this.kubeconfig, userAgent: 'ambit-test' });
    return this.#admin;
  }

  /** Path of a kubeconfig whose user has these groups; what it may do is up to RBAC. */
  userKubeconfig(user: KubeUser): string {
    return this.files.certificateKubeconfig(user);
  }

  /** Path of a kubeconfig that shows a bearer token. */
  tokenKubeconfig(token: string): string {
    return this.files.tokenKubeconfig(token);
  }

  /** A token of an existing service account (TokenRequest). */
  async serviceAccountToken(namespace: string, name: string, options: TokenOptions = {}): Promise<string> {
    const spec: Record<string, unknown> = { audiences: options.audience === undefined ? [] : [options.audience] };
    if (options.lifetimeSeconds !== undefined) spec.expirationSeconds = options.lifetimeSeconds;
    if (options.boundPod !== undefined) {
      const pod = await this.call('GET', `/api/v1/namespaces/${namespace}/pods/${options.boundPod}`);
      const uid = textAt(pod, 'metadata', 'uid');
      spec.boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: options.boundPod, uid };
    }
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec };
    return textAt(await this.call('POST', path, body), 'status', 'token');
  }

  /** Creates a namespace with its `default` service account. */
  async namespace(name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.call('POST', '/api/v1/namespaces', {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels },
    });
    await this.createServiceAccount(name, 'default');
  }

  async createServiceAccount(namespace: string, name: string): Promise<void> {
    const body = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } };
    await this.call('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, body);
  }

  /**
   * One request as administrator, or with a token; the decoded body. Independent of kube/, which tests check against this
   * server. Throws KubeApiRefusal.
   */
  call(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown, token?: string) {
    const agent = token === undefined ? this.#agent : new TlsAgent({ ca: this.files.authority.pem });
    return callJson(this.url + path, { method, body, agent, token });
  }

  /** A watch as administrator. Throws KubeApiRefusal. */
  stream(path: string): Promise<EventStream> {
    return openEventStream(this.url + path, this.#agent);
  }

  /** Creates every CustomResourceDefinition of the YAML files of a folder and waits until the server serves them. */
  async applyDefinitions(folder: string): Promise<void> {
    const documents = globSync('**/*.yaml', { cwd: folder })
      .sort()
      .flatMap((file) => parseAllDocuments(readFileSync(join(folder, file), 'utf8')))
      .map((document): unknown => document.toJS())
      .filter((document) => textAt(document, 'kind') === 'CustomResourceDefinition');
    const collection = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
    await Promise.all(
      documents.map(async (document) => {
        await this.call('POST', collection, document);
        const established = async (): Promise<void> => {
          const definition = await this.call('GET', `${collection}/${textAt(document, 'metadata', 'name')}`);
          const conditions = valueAt(definition, 'status', 'conditions');
          if (!Array.isArray(conditions) || !conditions.some(isEstablished))
            throw new Error(JSON.stringify(conditions));
        };
        await eventually(`${textAt(document, 'metadata', 'name')} is established`, established, START_TIMEOUT_MS);
      }),
    );
  }

  /** Down and up on the same port; watches are cut, objects stay. */
  async restart(): Promise<void> {
    await this.stopServer();
    await this.startServer();
  }

  /** SIGKILL: every connection ends at once, as when the machine of the server dies. */
  async stopServer(): Promise<void> {
    await this.#server?.kill();
    this.#server = undefined;
  }

  /** Resolves when the server is ready. */
  async startServer(): Promise<void> {
    if (this.#server !== undefined) throw new Error('the API server runs already');
    const server = new OwnProcess(
      this.files.folder,
      'kube-apiserver',
      clusterBinary('kube-apiserver'),
      this.#serverArguments(),
    );
    this.#server = server;
    await eventually(
      'the API server is ready',
      async () => {
        server.requireAlive();
        await this.call('GET', '/readyz');
      },
      START_TIMEOUT_MS,
    );
  }

  /**
   * Makes etcd forget every revision before the present one: continuing an older list gives 410. A running API server is
   * restarted, since it would answer older watches from its own memory; they give 410 too then.
   */
  async compact(): Promise<void> {
    const etcd = `http://127.0.0.1:${this.#ports.etcdPort}/v3/kv`;
    // A write first: otherwise a client that has seen everything has not missed anything either.
    const written = await callJson(`${etcd}/put`, { method: 'POST', body: { key: base64('/ambit'), value: '' } });
    const revision = textAt(written, 'header', 'revision');
    await callJson(`${etcd}/compaction`, { method: 'POST', body: { revision, physical: true } });
    if (this.#server !== undefined) await this.restart();
  }

  /** The end of the log of the API server. */
  serverLog(): string {
    return this.#server?.logTail() ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#admin?.close();
    this.#agent.destroy();
    await this.stopServer();
    await this.#etcd?.kill();
    rmSync(this.files.folder, { recursive: true, force: true });
  }

  #serverArguments(): string[] {
    const path = (name: string): string => this.files.path(name);
    return [
      `--etcd-servers=http://127.0.0.1:${this.#ports.etcdPort}`,
      '--bind-address=127.0.0.1',
      '--advertise-address=127.0.0.1',
      `--secure-port=${this.port}`,
      // Addresses on loopback are refused as endpoints of the service `kubernetes`.
      '--endpoint-reconciler-type=none',
      `--cert-dir=${path('generated')}`,
      `--client-ca-file=${path('ca.crt')}`,
      `--tls-cert-file=${path('server.crt')}`,
      `--tls-private-key-file=${path('server.key')}`,
      `--service-account-issuer=${TOKEN_ISSUER}`,
      `--service-account-key-file=${path('tokens.pub')}`,
      `--service-account-signing-key-file=${path('tokens.key')}`,
      '--service-cluster-ip-range=10.96.0.0/16',
      '--authorization-mode=Node,RBAC',
      '--enable-admission-plugins=NodeRestriction',
      '--allow-privileged=true',
      '--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true',
      '--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true',
      '--profiling=false',
      ...this.#serverArgs,
    ];
  }
}

function isEstablished(condition: unknown): boolean {
  return textAt(condition, 'type') === 'Established' && textAt(condition, 'status') === 'True';
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
