/**
 * The tiers of the tests: what each one runs, how many files at once, and what the machine must offer for it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { findOnPath } from './cluster-binaries.ts';
import { clusterIsGiven, clusterObstacle } from './cluster-obstacle.ts';
import { kubeObstacle } from './kube-api.ts';

export interface Tier {
  readonly name: string;
  /** One line for the table of the runner. */
  readonly about: string;
  readonly work:
    | {
        readonly kind: 'files';
        readonly folder: string;
        readonly concurrency: number;
        /** Longest a file may take; one that needs more is a defect of the file. */
        readonly timeLimitMs: number;
      }
    | { readonly kind: 'commands'; readonly commands: readonly TierCommand[] };
  /** Why the tier cannot run on this machine, or undefined when it can. */
  readonly obstacle: () => string | undefined;
  /** Runs before the work, when there is no obstacle; the tier fails with it. */
  readonly preparation?: TierCommand;
  /** Runs after the work in every case: removes what a file that was killed has left. */
  readonly cleanup?: TierCommand;
}

/** A program whose exit code is the verdict. */
export interface TierCommand {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly timeLimitMs: number;
  /** True: its output is shown while it runs, not only when it fails. */
  readonly live?: true;
}

const ROOT = join(import.meta.dirname, '..', '..');
const BIN = join(ROOT, 'node_modules', '.bin');
const PARALLEL = Math.max(1, Math.min(4, availableParallelism()));

const FILE_TIME_LIMIT_MS = 180_000;
/** Starting two nodes and building an image takes longer. */
const CLUSTER_FILE_TIME_LIMIT_MS = 600_000;
/** Kubernetes from source, nothing cached, on two slow cores. */
const BUILD_TIME_LIMIT_MS = 25 * 60_000;

const nothing = (): undefined => undefined;

function files(name: string, about: string, concurrency: number, obstacle: Tier['obstacle'] = nothing): Tier {
  return { name, about, work: { kind: 'files', folder: name, concurrency, timeLimitMs: FILE_TIME_LIMIT_MS }, obstacle };
}

/** Says what it builds; silent and quick when there is nothing to do. */
function clusterScript(script: string, ...args: string[]): TierCommand {
  const command: TierCommand['command'] = [join(ROOT, 'test', 'cluster', script), ...args];
  return { name: `test/cluster/${script}`, command, timeLimitMs: BUILD_TIME_LIMIT_MS, live: true };
}

/** In the order they run: cheap and broad first. */
export const TIERS: readonly Tier[] = [
  {
    name: 'check',
    about: 'compiler and linter',
    work: {
      kind: 'commands',
      commands: [
        { name: 'tsc', command: [join(BIN, 'tsc')], timeLimitMs: 180_000 },
        { name: 'biome', command: [join(BIN, 'biome'), 'check', '.'], timeLimitMs: 120_000 },
      ],
    },
    obstacle: nothing,
  },
  files('unit', 'pure decisions, tables, documentation', PARALLEL),
  files('net', 'real sockets on loopback', PARALLEL),
  files('netns', 'real network namespaces', 1, namespaceObstacle),
  files('hostile', 'peers that break the rules', 1),
  files('fuzz', 'random and mutated input', PARALLEL),
  files('peers', "strangers' implementations, HTTP/2 conformance", 1, () => goObstacle() ?? namespaceObstacle()),
  {
    name: 'sandbox',
    about: 'the two-node mesh, unattended',
    work: {
      kind: 'commands',
      commands: [
        {
          name: 'ambit sandbox --check',
          command: [process.execPath, join(ROOT, 'cli', 'main.ts'), 'sandbox', '--check'],
          timeLimitMs: 600_000,
          live: true,
        },
      ],
    },
    obstacle: sandboxObstacle,
  },
  {
    ...files('kube', 'a real Kubernetes API server', 1, kubeObstacle),
    preparation: clusterScript('build-binaries', 'kube-apiserver', 'gateway-api'),
  },
  {
    name: 'cluster',
    about: 'two real Kubernetes nodes',
    work: { kind: 'files', folder: 'cluster', concurrency: 1, timeLimitMs: CLUSTER_FILE_TIME_LIMIT_MS },
    obstacle: () => (clusterIsGiven() ? undefined : (clusterObstacle() ?? namespaceObstacle())),
    preparation: clusterScript('bed', 'prepare'),
    cleanup: clusterScript('bed', 'reclaim'),
  },
];

function namespaceObstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root (network namespaces)';
  const missing = ['ip', 'nft', 'nsenter'].filter((program) => !onPath(program));
  if (missing.length > 0) return `needs ${missing.join(', ')} (apt-get install nftables iproute2 util-linux)`;
  if (spawnSync('unshare', ['--net', '--mount', 'true']).status !== 0) {
    return 'this machine does not allow new network namespaces (a container without CAP_SYS_ADMIN?)';
  }
  return undefined;
}

function sandboxObstacle(): string | undefined {
  const plugins = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'];
  if (!plugins.some((folder) => existsSync(join(folder, 'bridge')))) {
    return 'needs the CNI reference plugins (apt-get install containernetworking-plugins)';
  }
  if (!onPath('tcpdump')) return 'needs tcpdump (apt-get install tcpdump)';
  return namespaceObstacle();
}

function goObstacle(): string | undefined {
  if (!onPath('go')) return 'needs a Go toolchain to build the foreign peers (https://go.dev/dl)';
  return undefined;
}

function onPath(program: string): boolean {
  return findOnPath(program) !== undefined;
}
