/**
 * The mesh between two nodes: an agent in each namespace captures by rules of its own and speaks HBONE to the other; and
 * the same client agent in front of a server outside the mesh (plaintext, one hop).
 */
import { startAgent } from './agent-process.ts';
import type { Subject, SubjectWorld } from './subject.ts';

export const hbone: Subject = {
  name: 'hbone',
  about: 'two agents, HBONE between them, one worker each',
  async start(world) {
    const mesh = meshOf(world, 'HBONE');
    const server = await startAgent({ ...dedicated(world, 'server'), mesh });
    const client = await startAgent({ ...dedicated(world, 'client'), mesh });
    return {
      address: (port) => ({ ip: world.serverAddress, port }),
      proxies: [client, server],
      stop: async () => {
        await Promise.all([client.stop(), server.stop()]);
      },
    };
  },
};

export const passThrough: Subject = {
  name: 'pass-through',
  about: 'one agent at the client, the server is not in the mesh',
  async start(world) {
    const client = await startAgent({ ...dedicated(world, 'client'), mesh: meshOf(world, 'TCP') });
    return {
      address: (port) => ({ ip: world.serverAddress, port }),
      proxies: [client],
      stop: () => client.stop(),
    };
  },
};

function dedicated(world: SubjectWorld, side: 'client' | 'server') {
  return {
    namespace: world[side],
    name: side,
    folder: world.folder,
    identityDirectory: world.identities[side],
    flags: ['--dedicated', `bench/${side}/${side}`, '--capture'],
    env: { NODE_NAME: `node-of-${side}` },
  };
}

function meshOf(world: SubjectWorld, serverProtocol: 'HBONE' | 'TCP'): string {
  return `workloads:
- {uid: c//Pod/bench/client, name: client, namespace: bench, serviceAccount: client, trustDomain: cluster.local,
   workloadName: client, canonicalName: client, workloadIps: [${world.clientAddress}], protocol: HBONE,
   node: node-of-client, services: {}}
- {uid: c//Pod/bench/server, name: server, namespace: bench, serviceAccount: server, trustDomain: cluster.local,
   workloadName: server, canonicalName: server, workloadIps: [${world.serverAddress}], protocol: ${serverProtocol},
   node: node-of-server, services: {}}
`;
}
