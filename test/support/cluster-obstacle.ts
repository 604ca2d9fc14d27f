/** What the two-node bed (test/cluster) asks of a machine. */
import { findOnPath, missingBinaries } from './cluster-binaries.ts';

/** Programs, each with the Debian package that brings it. */
const PROGRAMS: Readonly<Record<string, string>> = {
  etcd: 'etcd-server',
  containerd: 'containerd',
  runc: 'runc',
  conntrack: 'conntrack',
  ethtool: 'ethtool',
  socat: 'socat',
  jq: 'jq',
  openssl: 'openssl',
  gcc: 'gcc libc6-dev',
  debootstrap: 'debootstrap',
  buildah: 'buildah',
  iptables: 'iptables',
};

/** True when the tests run on a cluster of somebody else (`--kubeconfig`), which asks nothing of the machine. */
export function clusterIsGiven(): boolean {
  return process.env.AMBIT_TEST_KUBECONFIG !== undefined;
}

/** Why the bed cannot run here, or undefined. */
export function clusterObstacle(): string | undefined {
  const packages = Object.entries(PROGRAMS).flatMap(([program, name]) => (findOnPath(program) ? [] : [name]));
  if (packages.length > 0) return `apt-get install --no-install-recommends ${packages.join(' ')}`;
  const missing = missingBinaries(['kube-apiserver', 'kubelet', 'kubectl', 'coredns']);
  if (missing.length > 0 && findOnPath('go') === undefined) {
    return `needs ${missing.join(', ')}, or a Go toolchain to build them (https://go.dev/dl)`;
  }
  return undefined;
}
