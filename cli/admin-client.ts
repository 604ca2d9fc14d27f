/**
 * Reaches the admin pages of agents: the one `--admin` names, those of a cluster, both of a running sandbox, or the one on
 * this host. An agent of the sandbox listens on loopback in its node's network namespace; curl is started in there. Those of
 * a cluster are reached through its API server.
 */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { AmbitError } from '../core/errors.ts';
import { ADMIN_PORT } from '../core/ports.ts';
import { KubeClient } from '../kube/client.ts';
import { fetchPodPage } from '../kube/pod-http.ts';
import { NODE_NAMES, NODES } from '../sandbox/layout.ts';
import type { SandboxRun } from '../sandbox/registry.ts';
import { type AgentPod, eachOf, findAgents } from './agents.ts';
import { type ClusterOptions, userAgent } from './cluster.ts';
import { awaitExit, enterWorld } from './enter-world.ts';
import { findSandbox } from './running-sandbox.ts';

const TIMEOUT_SECONDS = 5;
/** Agents of a cluster that are asked at the same time. */
const CLUSTER_CALLS = 8;

export interface AdminAnswer {
  readonly status: number;
  /** Parsed JSON. */
  readonly value: unknown;
}

export interface AdminEndpoint {
  /** Name of the node, or the address. */
  readonly name: string;
  /** GET; rejects with `ADMIN_UNREACHABLE`. */
  get(path: string): Promise<AdminAnswer>;
}

export interface AdminOptions extends ClusterOptions {
  readonly admin?: string;
}

/** Whose agents they are. */
export interface AdminEndpoints extends Disposable {
  readonly of: 'one agent' | 'sandbox' | 'cluster';
  /** At least one; whether anybody listens shows when it is asked. */
  readonly endpoints: readonly AdminEndpoint[];
}

/** Rejects with ADMIN_UNREACHABLE or KUBERNETES_API when a cluster is meant and has no agents. */
export async function openAdminEndpoints(options: AdminOptions): Promise<AdminEndpoints> {
  const { admin, kubeconfig, context } = options;
  if (admin !== undefined) return { of: 'one agent', endpoints: [tcpEndpoint(admin)], [Symbol.dispose]() {} };
  if (kubeconfig !== undefined || context !== undefined) return await openCluster(options);
  const run = await findSandbox();
  if (run !== undefined) {
    return { of: 'sandbox', endpoints: NODE_NAMES.map((name) => sandboxEndpoint(run, name)), [Symbol.dispose]() {} };
  }
  if (hasKubeconfig()) return await openCluster(options);
  return { of: 'one agent', endpoints: [tcpEndpoint(`127.0.0.1:${ADMIN_PORT}`)], [Symbol.dispose]() {} };
}

/** What every agent answers, in the order of the endpoints; a few are asked at a time. */
export async function askEach(
  endpoints: readonly AdminEndpoint[],
  path: string,
): Promise<readonly PromiseSettledResult<AdminAnswer>[]> {
  const answers: PromiseSettledResult<AdminAnswer>[] = [];
  await eachOf([...endpoints.entries()], CLUSTER_CALLS, async ([index, endpoint]) => {
    const [answer] = await Promise.allSettled([endpoint.get(path)]);
    answers[index] = answer;
  });
  return answers;
}

async function openCluster({ kubeconfig, context, namespace }: ClusterOptions): Promise<AdminEndpoints> {
  const client = KubeClient.open({ kubeconfig, context, userAgent });
  try {
    const agents = await findAgents(client, namespace);
    return {
      of: 'cluster',
      endpoints: agents.map((agent) => clusterEndpoint(client, agent)),
      [Symbol.dispose]: () => client.close(),
    };
  } catch (error) {
    client.close();
    throw error;
  }
}

/** A pod has a credential, too, but is not where people ask about a cluster. */
function hasKubeconfig(): boolean {
  const named = process.env.KUBECONFIG;
  return (named !== undefined && named !== '') || existsSync(join(homedir(), '.kube', 'config'));
}

function clusterEndpoint(client: KubeClient, { namespace, name, node }: AgentPod): AdminEndpoint {
  return {
    name: node,
    async get(path) {
      try {
        const port = { namespace, pod: name, port: ADMIN_PORT };
        const { status, text } = await fetchPodPage(client, port, path, TIMEOUT_SECONDS * 1000);
        return { status, value: parse(text, node) };
      } catch (error) {
        throw new AmbitError('ADMIN_UNREACHABLE', `the agent of ${node}: ${describe(error)}`, { cause: error });
      }
    },
  };
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function tcpEndpoint(address: string): AdminEndpoint {
  return {
    name: address,
    async get(path) {
      try {
        const response = await fetch(`http://${address}${path}`, {
          signal: AbortSignal.timeout(TIMEOUT_SECONDS * 1000),
        });
        return { status: response.status, value: await response.json() };
      } catch (error) {
        throw new AmbitError('ADMIN_UNREACHABLE', `no agent answers on ${address}`, { cause: error });
      }
    },
  };
}

function sandboxEndpoint(run: SandboxRun, node: (typeof NODE_NAMES)[number]): AdminEndpoint {
  return {
    name: node,
    async get(path) {
      const enter = ['nsenter', `--net=/run/netns/${NODES[node].namespace}`, '--'];
      const curl = ['curl', '-sS', '--max-time', String(TIMEOUT_SECONDS), '-w', '\n%{http_code}'];
      const url = `http://127.0.0.1:${ADMIN_PORT}${path}`;
      const child = enterWorld(run, [...enter, ...curl, url], ['ignore', 'pipe', 'pipe']);
      let stdout = '';
      let stderr = '';
      child.stdout?.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
      });
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      const exit = await awaitExit(child);
      if (exit !== 0) throw new AmbitError('ADMIN_UNREACHABLE', `agent ${node} of the sandbox: ${stderr.trim()}`);
      const end = stdout.lastIndexOf('\n');
      return { status: Number(stdout.slice(end + 1)), value: parse(stdout.slice(0, end), node) };
    },
  };
}

function parse(text: string, node: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new AmbitError('ADMIN_UNREACHABLE', `agent ${node} gave no JSON: ${text.slice(0, 200)}`, { cause: error });
  }
}
