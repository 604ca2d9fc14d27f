/**
 * Reaches the admin pages of agents: the one `--admin` names, both of a running sandbox, or the one on this host. An
 * agent of the sandbox listens on loopback in its node's network namespace; curl is started in there.
 */
import { AmbitError } from '../core/errors.ts';
import { ADMIN_PORT } from '../core/ports.ts';
import { NODE_NAMES, NODES } from '../sandbox/layout.ts';
import type { SandboxRun } from '../sandbox/registry.ts';
import { awaitExit, enterWorld } from './enter-world.ts';
import { findSandbox } from './running-sandbox.ts';

const TIMEOUT_SECONDS = 5;

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

/** At least one endpoint; whether anybody listens shows when it is asked. */
export async function findAdminEndpoints(admin: string | undefined): Promise<readonly AdminEndpoint[]> {
  if (admin !== undefined) return [tcpEndpoint(admin)];
  const run = await findSandbox();
  if (run === undefined) return [tcpEndpoint(`127.0.0.1:${ADMIN_PORT}`)];
  return NODE_NAMES.map((name) => sandboxEndpoint(run, name));
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
