/**
 * A small cluster of network namespaces for tests: nodes joined by a switch, pods behind their node's bridge.
 *
 *     switch namespace:  br0  --- node 1 eth0 172.31.0.1/24   node 2 eth0 172.31.0.2/24 ...
 *     node N:            cni0 10.77.N.1/24 --- pods eth0 10.77.N.10, .11, ...
 *
 * With `ipv6` every address has a companion: fd31::N on the switch, fd77:N::1 and fd77:N::10, ... behind the nodes.
 *
 * Nothing touches the namespace of the test process: the switch has its own. Names carry the process id and a counter,
 * so that runs beside each other never meet. `await using` removes namespaces and processes also when the test fails;
 * a run that was killed leaves names whose process id is dead, and the next `create` removes those.
 */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { PodProcess } from './pod-process.ts';

const PREFIX = 'ambit-t';
let created = 0;

/** A network namespace, its name under /run/netns, and what runs in it. */
export class TestNamespace {
  readonly name: string;
  readonly path: string;
  readonly #children = new Set<ChildProcess>();

  constructor(name: string) {
    this.name = name;
    this.path = `/run/netns/${name}`;
    ip(['netns', 'add', name]);
    ip(['-n', name, 'link', 'set', 'lo', 'up']);
  }

  /** Runs a command in the namespace and returns its standard output; throws with its standard error. */
  exec(command: string, ...args: string[]): string {
    return execFileSync('nsenter', [`--net=${this.path}`, command, ...args], { encoding: 'utf8', stdio: 'pipe' });
  }

  /** Starts a process in the namespace; it is killed when the namespace goes. The child's pid is the command's own. */
  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return this.own(spawn('nsenter', [`--net=${this.path}`, command, ...args], options));
  }

  /** Makes a process that was started elsewhere end with the namespace. */
  own(child: ChildProcess): ChildProcess {
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /** `ip` with arguments separated by blanks, inside the namespace. */
  ip(args: string): string {
    return ip(['-n', this.name, ...args.split(' ')]);
  }

  /** Applies an nft script inside the namespace. */
  nft(script: string): void {
    execFileSync('nsenter', [`--net=${this.path}`, 'nft', '-f', '-'], { input: script, stdio: 'pipe' });
  }

  async remove(): Promise<void> {
    await Promise.all([...this.#children].map((child) => endProcess(child)));
    try {
      ip(['netns', 'del', this.name]);
    } catch {
      // Already gone.
    }
  }
}

export class TestNode extends TestNamespace {
  readonly index: number;
  /** Addresses on the switch. */
  readonly address: string;
  readonly address6: string;
  readonly ipv6: boolean;
  readonly pods: TestPod[] = [];

  constructor(name: string, index: number, ipv6 = false) {
    super(name);
    this.index = index;
    this.ipv6 = ipv6;
    this.address = `172.31.0.${index}`;
    this.address6 = ipv6 ? `fd31::${index}` : '';
  }

  /** A pod behind this node's bridge, with a default route over the node. */
  addPod(label: string): TestPod {
    const number = this.pods.length + 10;
    const pod = new TestPod(
      `${this.name}-${label}`,
      label,
      this,
      `10.77.${this.index}.${number}`,
      `fd77:${this.index}::${number}`,
    );
    this.pods.push(pod);
    const host = `v${number}`;
    this.ip(`link add ${host} type veth peer name eth0 netns ${pod.name}`);
    this.ip(`link set ${host} master cni0 up`);
    pod.ip(`addr add ${pod.address}/24 dev eth0`);
    pod.ip('link set eth0 up');
    pod.ip(`route add default via 10.77.${this.index}.1`);
    if (!this.ipv6) return pod;
    pod.ip(`addr add ${pod.address6}/64 dev eth0 nodad`);
    pod.ip(`-6 route add default via fd77:${this.index}::1`);
    return pod;
  }
}

export class TestPod extends TestNamespace {
  readonly label: string;
  readonly node: TestNode;
  readonly address: string;
  readonly address6: string;
  #process: Promise<PodProcess> | undefined;

  constructor(name: string, label: string, node: TestNode, address: string, address6 = '') {
    super(name);
    this.label = label;
    this.node = node;
    this.address = address;
    this.address6 = address6;
  }

  /** The pod's application process (started on first use): opens and accepts connections for the test. */
  process(): Promise<PodProcess> {
    this.#process ??= PodProcess.start(this);
    return this.#process;
  }
}

export class TestNetwork implements AsyncDisposable {
  readonly id: string;
  readonly ipv6: boolean;
  readonly switch: TestNamespace;
  readonly nodes: TestNode[] = [];

  private constructor(id: string, ipv6: boolean) {
    this.id = id;
    this.ipv6 = ipv6;
    this.switch = new TestNamespace(`${id}-sw`);
    this.switch.ip('link add br0 type bridge');
    this.switch.ip('link set br0 up');
  }

  /** An empty network with its switch; removes what dead runs left behind. */
  static create(options: { readonly ipv6?: boolean } = {}): TestNetwork {
    removeAbandoned();
    return new TestNetwork(`${PREFIX}${process.pid}-${++created}`, options.ipv6 ?? false);
  }

  addNode(): TestNode {
    const index = this.nodes.length + 1;
    const node = new TestNode(`${this.id}-n${index}`, index, this.ipv6);
    this.nodes.push(node);
    this.switch.ip(`link add p${index} type veth peer name eth0 netns ${node.name}`);
    this.switch.ip(`link set p${index} master br0 up`);
    node.ip(`addr add ${node.address}/24 dev eth0`);
    node.ip('link set eth0 up');
    node.ip('link add cni0 type bridge');
    node.ip(`addr add 10.77.${index}.1/24 dev cni0`);
    node.ip('link set cni0 up');
    node.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    if (this.ipv6) {
      node.ip(`addr add ${node.address6}/64 dev eth0 nodad`);
      node.ip(`addr add fd77:${index}::1/64 dev cni0 nodad`);
    }
    for (const other of this.nodes) {
      if (other === node) continue;
      node.ip(`route add 10.77.${other.index}.0/24 via ${other.address}`);
      other.ip(`route add 10.77.${index}.0/24 via ${node.address}`);
      if (!this.ipv6) continue;
      node.ip(`-6 route add fd77:${other.index}::/64 via ${other.address6}`);
      other.ip(`-6 route add fd77:${index}::/64 via ${node.address6}`);
    }
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.nodes.flatMap((node) => node.pods), ...this.nodes, this.switch];
    await Promise.all(all.map((namespace) => namespace.remove()));
  }
}

function ip(args: readonly string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: 'pipe' });
}

/** SIGTERM, and SIGKILL after `patienceMs`; resolves when the process has ended. */
export async function endProcess(child: ChildProcess, patienceMs = 2000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const insist = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  await ended;
  clearTimeout(insist);
}

function removeAbandoned(): void {
  let names: string[];
  try {
    names = readdirSync('/run/netns');
  } catch {
    return;
  }
  for (const name of names) {
    const owner = new RegExp(`^${PREFIX}([0-9]+)-`).exec(name)?.[1];
    if (owner === undefined || Number(owner) === process.pid || isAlive(Number(owner))) continue;
    try {
      ip(['netns', 'del', name]);
    } catch {
      // Removed by another run in the meantime.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
