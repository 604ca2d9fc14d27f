/** Finding the runtime's folders: what distributions really write, and what is taken when nothing can be read. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { cniSettings, findCniFolders } from '../../../agent/install/cni-folders.ts';

function host(context: TestContext, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'ambit-host-'));
  context.after(() => rmSync(root, { recursive: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const CONTAINERD_1 = `version = 2
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause"
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/home/kubernetes/bin"
      conf_dir = "/etc/cni/net.d"
    [plugins."io.containerd.grpc.v1.cri".registry]
      conf_dir = "/somewhere/else"
`;
const CONTAINERD_2 = `version = 3
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/opt/cni/bin2']
  conf_dir = '/etc/cni/net2.d'
`;
const CRIO = `[crio.network]
# plugin_dir = "/not/this"
network_dir = "/etc/cni/net.d/"
plugin_dirs = [
  "/var/lib/cni/bin", # multus
  "/usr/libexec/cni",
]
`;

const CASES: readonly [string, Readonly<Record<string, string>>, string, string, RegExp][] = [
  ['plain containerd', { '/run/containerd/containerd.sock': '' }, '/opt/cni/bin', '/etc/cni/net.d', /defaults/],
  [
    'GKE, which keeps plugins in its own folder',
    { '/run/containerd/containerd.sock': '', '/etc/containerd/config.toml': CONTAINERD_1 },
    '/home/kubernetes/bin',
    '/etc/cni/net.d',
    /containerd, \/etc\/containerd\/config.toml/,
  ],
  [
    'containerd 2 with an added file',
    { '/run/containerd/containerd.sock': '', '/etc/containerd/conf.d/cni.toml': CONTAINERD_2 },
    '/opt/cni/bin2',
    '/etc/cni/net2.d',
    /conf.d\/cni.toml/,
  ],
  [
    'k3s beside a containerd that is installed as well',
    { '/run/k3s/containerd/containerd.sock': '', '/run/containerd/containerd.sock': '' },
    '/var/lib/rancher/k3s/data/cni',
    '/var/lib/rancher/k3s/agent/etc/cni/net.d',
    /k3s/,
  ],
  [
    'MicroK8s',
    { '/var/snap/microk8s/common/run/containerd.sock': '' },
    '/var/snap/microk8s/current/opt/cni/bin',
    '/var/snap/microk8s/current/args/cni-network',
    /MicroK8s/,
  ],
  [
    'OpenShift with CRI-O',
    { '/var/run/crio/crio.sock': '', '/etc/crio/crio.conf.d/00-default': CRIO },
    '/var/lib/cni/bin',
    '/etc/cni/net.d/',
    /CRI-O/,
  ],
  ['an unknown runtime', {}, '/opt/cni/bin', '/etc/cni/net.d', /no known runtime socket/],
];

for (const [name, files, binaryFolder, configFolder, foundBy] of CASES) {
  test(`the folders of ${name} are found`, async (context) => {
    const folders = await findCniFolders(host(context, files));
    assert.deepEqual([folders.binaryFolder, folders.configFolder], [binaryFolder, configFolder]);
    assert.match(folders.foundBy, foundBy);
  });
}

for (const words of [
  ['containerd', '--config', '/etc/other/containerd.toml'],
  ['/usr/bin/containerd', '--config=/etc/other/containerd.toml'],
  ['containerd', '-c', '/etc/other/containerd.toml', '-a', '/run/x.sock'],
]) {
  test(`the file a running containerd was started with counts (${words.join(' ')})`, async (context) => {
    const root = host(context, {
      '/run/containerd/containerd.sock': '',
      '/etc/containerd/config.toml': CONTAINERD_1,
      '/etc/other/containerd.toml': CONTAINERD_2,
      '/proc/1/comm': 'systemd\n',
      '/proc/1/cmdline': 'systemd\0--config\0/etc/containerd/config.toml\0',
      '/proc/77/comm': 'containerd\n',
      '/proc/77/cmdline': `${words.join('\0')}\0`,
    });
    const folders = await findCniFolders(root, join(root, 'proc'));
    assert.deepEqual([folders.binaryFolder, folders.configFolder], ['/opt/cni/bin2', '/etc/cni/net2.d']);
    assert.match(folders.foundBy, /\/etc\/other\/containerd.toml/);
  });
}

test('a process of a pod that calls itself containerd is not asked', async (context) => {
  const root = host(context, {
    '/run/containerd/containerd.sock': '',
    '/etc/evil.toml': CONTAINERD_2,
    '/proc/77/comm': 'containerd\n',
    '/proc/77/cmdline': 'containerd\0--config\0/etc/evil.toml\0',
    '/proc/77/cgroup': '1:cpu:/kubepods/besteffort/pod0f9a41a5-7a4c-4d0c-9f5b-2f5f0b0c7c11/0123456789abcdef\n',
  });
  assert.equal((await findCniFolders(root, join(root, 'proc'))).binaryFolder, '/opt/cni/bin');
});

test('a containerd without a file of its own reads the usual one', async (context) => {
  const root = host(context, {
    '/run/containerd/containerd.sock': '',
    '/etc/containerd/config.toml': CONTAINERD_1,
    '/proc/77/comm': 'containerd\n',
    '/proc/77/cmdline': 'containerd\0',
  });
  assert.equal((await findCniFolders(root, join(root, 'proc'))).binaryFolder, '/home/kubernetes/bin');
});

test('minikube with Docker keeps its network namespaces elsewhere', async (context) => {
  const folders = await findCniFolders(host(context, { '/var/run/cri-dockerd.sock': '' }));
  assert.equal(folders.netnsFolder, '/var/run/docker/netns');
});

test('a relative path or an unreadable file leaves the default', async (context) => {
  const text = '[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "bin"\nconf_dir =\n';
  const root = host(context, { '/run/containerd/containerd.sock': '', '/etc/containerd/config.toml': text });
  const folders = await findCniFolders(root);
  assert.deepEqual([folders.binaryFolder, folders.configFolder], ['/opt/cni/bin', '/etc/cni/net.d']);
});

test('keys outside the tables about CNI are not taken', () => {
  assert.deepEqual(
    [...cniSettings(CONTAINERD_1)],
    [
      ['bin_dir', '/home/kubernetes/bin'],
      ['conf_dir', '/etc/cni/net.d'],
    ],
  );
  assert.equal(cniSettings('[other]\nbin_dir = "/x"\n').size, 0);
});
