/**
 * The public peer: a pair of HAProxies that carries TCP connections in mutual TLS 1.3, one thread each. It neither
 * captures nor multiplexes: every connection has a TLS connection of its own (with session resumption, its default).
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { endChild, openFileLimit } from '../namespaces.ts';
import { awaitListening } from '../wait.ts';
import type { Subject, SubjectWorld } from './subject.ts';

const PLAIN_OFFSET = 10_000;
const TLS_OFFSET = 20_000;

export const haproxy: Subject = {
  name: 'haproxy tls',
  about: 'a pair of HAProxies, mutual TLS 1.3, mode tcp, one thread each',
  async start(world) {
    const files = { client: join(world.folder, 'client.cfg'), server: join(world.folder, 'server.cfg') };
    writeFileSync(files.client, clientConfiguration(world));
    writeFileSync(files.server, serverConfiguration(world));
    const server = world.server.start('haproxy', ['-db', '-f', files.server]);
    const client = world.client.start('haproxy', ['-db', '-f', files.client]);
    for (const port of [world.httpPort, world.throughputPort]) {
      await awaitListening(world.server, port + TLS_OFFSET, server);
      await awaitListening(world.client, port + PLAIN_OFFSET, client);
    }
    return {
      address: (port) => ({ ip: world.clientAddress, port: port + PLAIN_OFFSET }),
      proxies: [
        { name: 'client side', pid: client.pid ?? 0 },
        { name: 'server side', pid: server.pid ?? 0 },
      ],
      stop: async () => {
        await Promise.all([endChild(client), endChild(server)]);
      },
    };
  },
};

/** Connections that fit the limit of open files, two for each. */
const MAX_CONNECTIONS = Math.min(30_000, Math.floor((openFileLimit() - 50) / 2));

const COMMON = `global
  nbthread 1
  maxconn ${MAX_CONNECTIONS}
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode tcp
  maxconn ${MAX_CONNECTIONS}
  timeout connect 10s
  timeout client 1h
  timeout server 1h
`;

function clientConfiguration(world: SubjectWorld): string {
  const { client } = world.identities;
  const tls = `ssl verify required ca-file ${client}/root-cert.pem crt ${client}/combined.pem`;
  const listeners = [world.httpPort, world.throughputPort].map(
    (port) => `listen p${port}
  bind ${world.clientAddress}:${port + PLAIN_OFFSET}
  server s ${world.serverAddress}:${port + TLS_OFFSET} ${tls}
`,
  );
  return COMMON + listeners.join('');
}

function serverConfiguration(world: SubjectWorld): string {
  const { server } = world.identities;
  const tls = `ssl crt ${server}/combined.pem ca-file ${server}/root-cert.pem verify required`;
  const listeners = [world.httpPort, world.throughputPort].map(
    (port) => `listen p${port}
  bind ${world.serverAddress}:${port + TLS_OFFSET} ${tls}
  server s ${world.serverAddress}:${port}
`,
  );
  return COMMON + listeners.join('');
}
