/** The servers behind every subject: nginx (one worker, 1 KiB answers, keep-alive without end) and iperf3. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Namespace } from './namespaces.ts';
import { awaitListening } from './wait.ts';

export const HTTP_PORT = 8080;
export const THROUGHPUT_PORT = 5201;
/** Body of every answer, bytes. */
export const ANSWER_BYTES = 1024;

export async function startServers(namespace: Namespace, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const configuration = join(folder, 'nginx.conf');
  writeFileSync(configuration, nginxConfiguration(folder));
  const nginx = namespace.start('nginx', ['-c', configuration, '-p', folder, '-e', join(folder, 'error.log')]);
  const iperf = namespace.start('iperf3', ['-s', '-p', String(THROUGHPUT_PORT)]);
  await awaitListening(namespace, HTTP_PORT, nginx);
  await awaitListening(namespace, THROUGHPUT_PORT, iperf);
}

function nginxConfiguration(folder: string): string {
  return `daemon off;
master_process off;
user root;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log crit;
worker_rlimit_nofile 60000;
events { worker_connections 50000; multi_accept on; }
http {
  access_log off;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  client_header_timeout 1h;
  client_body_temp_path ${folder};
  proxy_temp_path ${folder};
  fastcgi_temp_path ${folder};
  uwsgi_temp_path ${folder};
  scgi_temp_path ${folder};
  server {
    listen ${HTTP_PORT} backlog=8192;
    location / { default_type text/plain; return 200 "${'x'.repeat(ANSWER_BYTES)}"; }
  }
}
`;
}
