/**
 * What `ambit sandbox <command>` asks of a running sandbox: HTTP over a UNIX socket in the run's own /run, which only
 * root can reach (through /proc/<pid>/root).
 *
 *     GET  /status            nodes, processes, pods
 *     GET  /logs/<process>    the last lines of a process: control, agent a, agent b, a pod's namespace/name
 *     POST /kill/<node>       SIGKILL to the node's agent; the sandbox starts it again
 */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { COMMAND_SOCKET, isNodeName, NODE_NAMES } from './layout.ts';
import type { Sandbox } from './sandbox.ts';
import type { SupervisedProcess } from './supervised-process.ts';

export interface PodStatusView {
  readonly pod: string;
  readonly node: string;
  readonly netns: string;
  readonly ip: string;
  readonly state: string;
  readonly enrolled: boolean;
  /** Why it waits, empty otherwise. */
  readonly problem: string;
}

export interface ProcessView {
  readonly name: string;
  /** In the run's own process namespace; 0 between two lives. */
  readonly pid: number;
  readonly restarts: number;
}

export interface StatusView {
  readonly processes: readonly ProcessView[];
  readonly pods: readonly PodStatusView[];
}

interface Answer {
  readonly status: number;
  readonly body: object;
}

export class CommandServer {
  readonly #sandbox: Sandbox;
  readonly #server: Server;

  private constructor(sandbox: Sandbox) {
    this.#sandbox = sandbox;
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async open(sandbox: Sandbox): Promise<CommandServer> {
    const opened = new CommandServer(sandbox);
    opened.#server.listen(COMMAND_SOCKET);
    await once(opened.#server, 'listening');
    return opened;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, body } = await this.#decide(request.method ?? '', decodeURIComponent(request.url ?? '/'));
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  }

  async #decide(method: string, path: string): Promise<Answer> {
    const [, verb = '', ...rest] = path.split('/');
    const argument = rest.join('/');
    if (method === 'GET' && verb === 'status') return { status: 200, body: this.#status() };
    if (method === 'GET' && verb === 'logs') {
      const found = this.#processes().find((candidate) => candidate.name === argument);
      if (found === undefined) return refuse(`no process ${argument}; there are ${this.#processNames()}`);
      return { status: 200, body: { lines: found.recentLines } };
    }
    if (method === 'POST' && verb === 'kill') {
      if (!isNodeName(argument)) return refuse(`no node ${argument}; there are ${NODE_NAMES.join(', ')}`);
      const agent = this.#sandbox.agents[argument];
      const { pid = 0 } = agent;
      await agent.kill({ hold: false });
      return { status: 200, body: { killed: `agent ${argument}`, pid } };
    }
    return refuse(`unknown request ${method} ${path}`);
  }

  #status(): StatusView {
    const processes = this.#processes().map(({ name, pid, restarts }) => ({ name, pid: pid ?? 0, restarts }));
    const pods = this.#sandbox.kubelet.pods.map((pod) => ({
      pod: pod.key,
      node: pod.template.node,
      netns: pod.netns,
      ip: pod.ip ?? '',
      state: pod.state,
      enrolled: pod.enrolled,
      problem: pod.lastError?.message ?? '',
    }));
    return { processes, pods };
  }

  #processes(): SupervisedProcess[] {
    const pods = this.#sandbox.kubelet.pods.flatMap((pod) => (pod.process === undefined ? [] : [pod.process]));
    return [this.#sandbox.control, ...NODE_NAMES.map((name) => this.#sandbox.agents[name]), ...pods];
  }

  #processNames(): string {
    return this.#processes()
      .map((candidate) => candidate.name)
      .join(', ');
  }
}

function refuse(error: string): Answer {
  return { status: 404, body: { error } };
}
