/**
 * Two pods of one agent: enrolled through the CNI plugin, in the same pair of namespaces as every other subject, with the
 * agent in a third one. Bytes go from socket to socket; both reporters count and log.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Namespace } from '../namespaces.ts';
import { startAgent } from './agent-process.ts';
import type { Subject, SubjectWorld } from './subject.ts';

const PLUGIN = join(import.meta.dirname, '..', '..', 'cni-plugin', 'main.ts');

export const sameNode: Subject = {
  name: 'same node',
  about: 'one agent, both pods are its own, no encryption',
  async start(world) {
    const objects = join(world.folder, 'objects');
    mkdirSync(objects, { recursive: true });
    writeFileSync(join(objects, 'pods.yaml'), objectsOf(world));
    const node = new Namespace('node');
    const agent = await startAgent({
      namespace: node,
      name: 'agent',
      folder: world.folder,
      identityDirectory: world.identities.client,
      mesh: meshOf(world),
      flags: [],
      env: { AMBIT_POD_SOURCE: objects },
    });
    const runDirectory = join(world.folder, 'agent.run');
    enrol(world.client, 'client', world.clientAddress, runDirectory);
    enrol(world.server, 'server', world.serverAddress, runDirectory);
    return {
      address: (port) => ({ ip: world.serverAddress, port }),
      proxies: [agent],
      stop: async () => {
        await agent.stop();
        await node.remove();
      },
    };
  },
};

/** Calls the plugin as a container runtime does. */
function enrol(namespace: Namespace, pod: string, address: string, runDir: string): void {
  const prevResult = {
    cniVersion: '1.0.0',
    interfaces: [{ name: 'eth0', sandbox: namespace.path }],
    ips: [{ address: `${address}/24`, interface: 0 }],
  };
  execFileSync(process.execPath, [PLUGIN], {
    input: JSON.stringify({ cniVersion: '1.0.0', name: 'bench', type: 'ambit-cni', runDir, prevResult }),
    env: {
      ...process.env,
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: `bench-${pod}`,
      CNI_NETNS: namespace.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/nonexistent',
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=${pod};K8S_POD_UID=uid-${pod}`,
    },
  });
}

function objectsOf(world: SubjectWorld): string {
  const pod = (name: string, ip: string): string => `---
apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: bench, uid: uid-${name}}
spec: {serviceAccountName: ${name}, nodeName: bench, containers: [{name: main, image: none}]}
status: {podIP: ${ip}, podIPs: [{ip: ${ip}}]}
`;
  return `apiVersion: v1
kind: Namespace
metadata: {name: bench, labels: {istio.io/dataplane-mode: ambient}}
${pod('client', world.clientAddress)}${pod('server', world.serverAddress)}`;
}

function meshOf(world: SubjectWorld): string {
  return ['client', 'server']
    .map((name, index) => {
      const ip = index === 0 ? world.clientAddress : world.serverAddress;
      return `- {uid: c//Pod/bench/${name}, name: ${name}, namespace: bench, serviceAccount: ${name},
   trustDomain: cluster.local, workloadName: ${name}, canonicalName: ${name}, workloadIps: [${ip}], protocol: HBONE,
   node: bench, services: {}}
`;
    })
    .reduce((text, workload) => text + workload, 'workloads:\n');
}
