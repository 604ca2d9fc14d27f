/**
 * Credentials from kubeconfig files (one, or several merged as KUBECONFIG says: the first entry of a name counts).
 *
 * Certificates, tokens and files are read here. Users with `exec` or `auth-provider` go through @kubernetes/client-node,
 * which is loaded only then (docs/decisions/0060). Settings that would weaken the connection (`insecure-skip-tls-verify`,
 * plain http) are refused, as is `proxy-url`; proxies of the environment are never used.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import {
  boolean,
  type Decoder,
  decode,
  isRecord,
  list,
  object,
  optional,
  string,
  withDefault,
} from '../core/decoder.ts';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import type { Credential, CredentialState } from './credential.ts';
import { FileContent } from './file-content.ts';
import { PluginCredential } from './plugin-credential.ts';

const cluster = object(
  {
    server: string,
    'certificate-authority': optional(string),
    'certificate-authority-data': optional(string),
    'insecure-skip-tls-verify': withDefault(boolean, false),
    'tls-server-name': optional(string),
    'proxy-url': optional(string),
  },
  'ignore',
);
const anything: Decoder<unknown> = (value) => value;
const user = object(
  {
    'client-certificate': optional(string),
    'client-certificate-data': optional(string),
    'client-key': optional(string),
    'client-key-data': optional(string),
    token: optional(string),
    tokenFile: optional(string),
    username: optional(string),
    password: optional(string),
    exec: anything,
    'auth-provider': anything,
  },
  'ignore',
);
const context = object({ cluster: string, user: withDefault(string, ''), namespace: optional(string) }, 'ignore');

const kubeconfig = object(
  {
    clusters: withDefault(list(object({ name: string, cluster }, 'ignore')), []),
    users: withDefault(list(object({ name: string, user }, 'ignore')), []),
    contexts: withDefault(list(object({ name: string, context }, 'ignore')), []),
    'current-context': withDefault(string, ''),
  },
  'ignore',
);

type Cluster = NonNullable<ReturnType<typeof cluster>>;
type User = NonNullable<ReturnType<typeof user>>;

/** Files that count: the given one, else those of KUBECONFIG, else ~/.kube/config. */
export function kubeconfigFiles(given: string | undefined, environment: NodeJS.ProcessEnv = process.env): string[] {
  if (given !== undefined) return [given];
  const fromEnvironment = (environment.KUBECONFIG ?? '').split(delimiter).filter((file) => file !== '');
  return fromEnvironment.length > 0 ? fromEnvironment : [join(homedir(), '.kube', 'config')];
}

/** Throws CONFIGURATION, which names the file and the entry. */
export function openKubeconfig(files: readonly string[], wantedContext: string | undefined): Credential {
  const clusters = new Map<string, { cluster: Cluster; folder: string }>();
  const users = new Map<string, { user: User; folder: string }>();
  const contexts = new Map<string, NonNullable<ReturnType<typeof context>>>();
  let current = '';
  for (const file of files) {
    const folder = dirname(resolve(file));
    const config = readConfig(file);
    for (const entry of config.clusters) addFirst(clusters, entry.name, { cluster: entry.cluster, folder });
    for (const entry of config.users) addFirst(users, entry.name, { user: entry.user, folder });
    for (const entry of config.contexts) addFirst(contexts, entry.name, entry.context);
    if (current === '') current = config['current-context'];
  }
  const where = files.join(', ');
  const name = wantedContext ?? current;
  if (name === '') throw new AmbitError('CONFIGURATION', `${where} has no current-context; name one`);
  const chosen = contexts.get(name);
  if (chosen === undefined) {
    const known = [...contexts.keys()].slice(0, 20).join(', ');
    throw new AmbitError('CONFIGURATION', `${where} has no context ${JSON.stringify(name)}; it has: ${known}`);
  }
  const target = clusters.get(chosen.cluster);
  if (target === undefined) throw new AmbitError('CONFIGURATION', `${where} has no cluster ${chosen.cluster}`);
  const owner = users.get(chosen.user) ?? { user: decodeUser({}), folder: '.' };
  checkCluster(where, chosen.cluster, target.cluster);
  if (isRecord(owner.user.exec) || isRecord(owner.user['auth-provider'])) {
    return new PluginCredential(files, name, serverOf(target.cluster), target.cluster['tls-server-name']);
  }
  return new KubeconfigCredential(target, owner);
}

function readConfig(file: string): NonNullable<ReturnType<typeof kubeconfig>> {
  let value: unknown;
  try {
    value = parse(readFileSync(file, 'utf8'), { maxAliasCount: 100, logLevel: 'error' });
  } catch (thrown) {
    const { message } = toAmbitError(thrown, 'CONFIGURATION');
    throw new AmbitError('CONFIGURATION', `the kubeconfig ${file} cannot be read: ${message}`, { cause: thrown });
  }
  const decoded = decode(kubeconfig, value);
  if (decoded.ok) return decoded.value;
  const [problem] = decoded.problems;
  const field = problem === undefined ? '' : `${problem.path.join('.')} ${problem.reason}`;
  throw new AmbitError('CONFIGURATION', `the kubeconfig ${file} is not valid: ${field}`);
}

function decodeUser(value: unknown): User {
  const decoded = decode(user, value);
  if (decoded.ok) return decoded.value;
  throw new AmbitError('USAGE', 'an empty user must decode');
}

function addFirst<T>(entries: Map<string, T>, name: string, entry: T): void {
  if (!entries.has(name)) entries.set(name, entry);
}

function checkCluster(where: string, name: string, found: Cluster): void {
  const refuse = (why: string): never => {
    throw new AmbitError('CONFIGURATION', `cluster ${JSON.stringify(name)} in ${where}: ${why}`);
  };
  if (found['insecure-skip-tls-verify']) {
    refuse('insecure-skip-tls-verify is not supported: name the root of the server in certificate-authority');
  }
  if (found['proxy-url'] !== undefined) refuse('proxy-url is not supported: use an address that is reachable');
  if (!URL.canParse(found.server)) refuse(`server ${JSON.stringify(found.server)} is not a URL`);
  if (new URL(found.server).protocol !== 'https:') refuse(`server ${found.server} must begin with https://`);
}

function serverOf(found: Cluster): string {
  return found.server.replace(/\/+$/, '');
}

type Text = () => string | undefined;

class KubeconfigCredential implements Credential {
  readonly server: string;
  readonly serverName: string | undefined;
  readonly #files: FileContent[] = [];
  readonly #ca: Text;
  readonly #cert: Text;
  readonly #key: Text;
  readonly #authorization: Text;

  constructor(target: { cluster: Cluster; folder: string }, owner: { user: User; folder: string }) {
    this.server = serverOf(target.cluster);
    this.serverName = target.cluster['tls-server-name'];
    const { cluster: ofCluster } = target;
    const { user: ofUser } = owner;
    this.#ca = this.#pem(ofCluster['certificate-authority-data'], ofCluster['certificate-authority'], target.folder);
    this.#cert = this.#pem(ofUser['client-certificate-data'], ofUser['client-certificate'], owner.folder);
    this.#key = this.#pem(ofUser['client-key-data'], ofUser['client-key'], owner.folder);
    this.#authorization = this.#header(ofUser, owner.folder);
  }

  async current(): Promise<CredentialState> {
    return { ca: this.#ca(), cert: this.#cert(), key: this.#key(), authorization: this.#authorization() };
  }

  refused(): void {
    for (const file of this.#files) file.expire();
  }

  #pem(data: string | undefined, file: string | undefined, folder: string): Text {
    if (data !== undefined && data !== '') {
      const pem = Buffer.from(data, 'base64').toString('utf8');
      return () => pem;
    }
    return this.#file(file, folder) ?? (() => undefined);
  }

  #header(of: User, folder: string): Text {
    const file = this.#file(of.tokenFile, folder);
    if (file !== undefined) return () => `Bearer ${file()}`;
    if (of.token !== undefined && of.token !== '') return () => `Bearer ${of.token}`;
    if (of.username !== undefined) {
      const basic = Buffer.from(`${of.username}:${of.password ?? ''}`).toString('base64');
      return () => `Basic ${basic}`;
    }
    return () => undefined;
  }

  #file(file: string | undefined, folder: string): (() => string) | undefined {
    if (file === undefined || file === '') return undefined;
    const content = new FileContent(resolve(folder, file));
    this.#files.push(content);
    return () => content.read();
  }
}
