/**
 * Where the container runtime of this node looks for CNI plugins and configurations. Runtimes say so in their own
 * configuration; distributions move the folders (k3s, RKE2, MicroK8s, GKE, OpenShift), which is why it is read and not
 * assumed. Which runtime the kubelet uses is told by whose socket exists; which file it reads, by its command line where
 * the node's processes are visible, else by where such files usually lie.
 *
 * Paths are the node's; `hostRoot` is where the node's file system is visible to the agent.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readPodUid } from '../enrol/find-netns.ts';
import { visiblePath } from './node-path.ts';

export interface CniFolders {
  readonly binaryFolder: string;
  readonly configFolder: string;
  /** Where the runtime keeps the network namespaces of its sandboxes. */
  readonly netnsFolder: string;
  /** How they were found, for the log and the operator. */
  readonly foundBy: string;
}

interface RuntimeRow {
  readonly name: string;
  /** Its CRI socket: where it exists, this runtime serves the kubelet. */
  readonly socket: string;
  /** Name of its process; undefined where that takes no configuration file. */
  readonly process: string | undefined;
  /** Configuration files, and folders of them; later ones win. */
  readonly configurations: readonly string[];
  readonly keys: { readonly binary: readonly string[]; readonly config: readonly string[] };
  readonly defaults: Omit<CniFolders, 'foundBy'>;
}

const CONTAINERD_KEYS = { binary: ['bin_dir', 'bin_dirs'], config: ['conf_dir'] };
const STANDARD = { binaryFolder: '/opt/cni/bin', configFolder: '/etc/cni/net.d', netnsFolder: '/var/run/netns' };

/** The more particular first: k3s and MicroK8s bring a containerd of their own beside one that may be installed as well. */
const RUNTIMES: readonly RuntimeRow[] = [
  {
    name: 'k3s',
    socket: '/run/k3s/containerd/containerd.sock',
    process: 'containerd',
    configurations: [
      '/var/lib/rancher/k3s/agent/etc/containerd/config.toml',
      '/var/lib/rancher/rke2/agent/etc/containerd/config.toml',
    ],
    keys: CONTAINERD_KEYS,
    defaults: {
      ...STANDARD,
      binaryFolder: '/var/lib/rancher/k3s/data/cni',
      configFolder: '/var/lib/rancher/k3s/agent/etc/cni/net.d',
    },
  },
  {
    name: 'MicroK8s',
    socket: '/var/snap/microk8s/common/run/containerd.sock',
    process: 'containerd',
    configurations: ['/var/snap/microk8s/current/args/containerd.toml'],
    keys: CONTAINERD_KEYS,
    defaults: {
      ...STANDARD,
      binaryFolder: '/var/snap/microk8s/current/opt/cni/bin',
      configFolder: '/var/snap/microk8s/current/args/cni-network',
    },
  },
  {
    name: 'CRI-O',
    socket: '/var/run/crio/crio.sock',
    process: 'crio',
    configurations: ['/etc/crio/crio.conf', '/etc/crio/crio.conf.d'],
    keys: { binary: ['plugin_dir', 'plugin_dirs'], config: ['network_dir'] },
    defaults: STANDARD,
  },
  {
    name: 'cri-dockerd',
    socket: '/var/run/cri-dockerd.sock',
    process: undefined,
    configurations: [],
    keys: CONTAINERD_KEYS,
    defaults: { ...STANDARD, netnsFolder: '/var/run/docker/netns' },
  },
  {
    name: 'containerd',
    socket: '/run/containerd/containerd.sock',
    process: 'containerd',
    configurations: ['/etc/containerd/config.toml', '/etc/containerd/conf.d'],
    keys: CONTAINERD_KEYS,
    defaults: STANDARD,
  },
];

/** Never rejects: what cannot be read is left at the runtime's default. `hostProc`: the node's /proc, where it is visible. */
export async function findCniFolders(hostRoot: string, hostProc?: string): Promise<CniFolders> {
  for (const runtime of RUNTIMES) {
    if (!(await exists(await visiblePath(hostRoot, runtime.socket)))) continue;
    const settings = new Map<string, string>();
    const read: string[] = [];
    const given = hostProc === undefined ? undefined : await findConfigurationArgument(hostProc, runtime);
    const paths = given === undefined ? await configurationFiles(hostRoot, runtime) : [given];
    for (const path of paths) {
      const text = await readFile(await visiblePath(hostRoot, path), 'utf8').catch(() => undefined);
      if (text === undefined) continue;
      read.push(path);
      for (const [key, value] of cniSettings(text)) settings.set(key, value);
    }
    return {
      binaryFolder: firstOf(settings, runtime.keys.binary) ?? runtime.defaults.binaryFolder,
      configFolder: firstOf(settings, runtime.keys.config) ?? runtime.defaults.configFolder,
      netnsFolder: runtime.defaults.netnsFolder,
      foundBy: read.length === 0 ? `${runtime.name}, its defaults` : `${runtime.name}, ${read.join(', ')}`,
    };
  }
  return { ...STANDARD, foundBy: 'no known runtime socket; the standard folders' };
}

/**
 * Keys of the tables whose name ends in `cni` or `network` of a TOML file (containerd: `[plugins."...cri".cni]`, CRI-O:
 * `[crio.network]`). Of a list the first entry counts. Not a TOML parser: these tools write one key to a line, and a file
 * that does otherwise yields nothing, hence the default.
 */
export function cniSettings(text: string): Map<string, string> {
  const settings = new Map<string, string>();
  let inside = false;
  let openList: string | undefined;
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line.startsWith('#') || line === '') continue;
    const table = /^\[+\s*(.+?)\s*\]+\s*(#.*)?$/.exec(line)?.[1];
    if (table !== undefined && openList === undefined) {
      inside = /(^|\.)(cni|network)$/.test(table.replaceAll('"', '').replaceAll("'", ''));
      continue;
    }
    if (!inside) continue;
    const value = /["']([^"']*)["']/.exec(line)?.[1];
    if (openList !== undefined) {
      if (value !== undefined && !settings.has(openList)) settings.set(openList, value);
      if (line.includes(']')) openList = undefined;
      continue;
    }
    const key = /^([A-Za-z_]+)\s*=\s*(\[?)/.exec(line);
    if (key?.[1] === undefined) continue;
    if (value !== undefined && value !== '') settings.set(key[1], value);
    if (key[2] === '[' && !line.includes(']')) openList = key[1];
  }
  return settings;
}

/** The configuration file a running process of this runtime was started with: `--config F`, `--config=F` or `-c F`. */
async function findConfigurationArgument(hostProc: string, runtime: RuntimeRow): Promise<string | undefined> {
  if (runtime.process === undefined) return undefined;
  const entries = await readdir(hostProc).catch(() => []);
  for (const entry of entries) {
    if (!/^[0-9]+$/.test(entry)) continue;
    const name = await readFile(join(hostProc, entry, 'comm'), 'utf8').catch(() => '');
    if (name.trim() !== runtime.process) continue;
    // Names are free: a process of a pod is never the runtime.
    if (readPodUid(await readFile(join(hostProc, entry, 'cgroup'), 'utf8').catch(() => '')) !== undefined) continue;
    const words = (await readFile(join(hostProc, entry, 'cmdline'), 'utf8').catch(() => '')).split('\0');
    const path = configurationIn(words);
    if (path?.startsWith('/')) return path;
  }
  return undefined;
}

function configurationIn(words: readonly string[]): string | undefined {
  for (const [index, word] of words.entries()) {
    if (word === '--config' || word === '-c') return words[index + 1];
    if (word.startsWith('--config=')) return word.slice('--config='.length);
  }
  return undefined;
}

async function configurationFiles(hostRoot: string, runtime: RuntimeRow): Promise<string[]> {
  const files: string[] = [];
  for (const path of runtime.configurations) {
    const names = await readdir(await visiblePath(hostRoot, path)).catch(() => undefined);
    if (names === undefined) files.push(path);
    else files.push(...names.sort().map((name) => join(path, name)));
  }
  return files;
}

function firstOf(settings: ReadonlyMap<string, string>, keys: readonly string[]): string | undefined {
  for (const key of keys) {
    const value = settings.get(key);
    if (value?.startsWith('/')) return value;
  }
  return undefined;
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
