/** Starts a node agent for a benchmark: one worker, access log and metrics on, as a user would run it. */
import type { ChildProcess } from 'node:child_process';
import { openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentProgram } from '../../agent/build.ts';
import { endChild, type Namespace } from '../namespaces.ts';
import { awaitTrue } from '../wait.ts';

export interface AgentOptions {
  readonly namespace: Namespace;
  readonly name: string;
  readonly folder: string;
  /** Local configuration: workloads and policies, YAML. */
  readonly mesh: string;
  readonly identityDirectory: string;
  readonly flags: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface AgentProcess {
  readonly name: string;
  readonly pid: number;
  stop(): Promise<void>;
}

export async function startAgent(options: AgentOptions): Promise<AgentProcess> {
  const { namespace, name, folder, flags } = options;
  const mesh = join(folder, `${name}.yaml`);
  writeFileSync(mesh, options.mesh);
  const profile = process.env.AMBIT_BENCH_PROFILE;
  const nodeFlags = profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`];
  const { file } = await agentProgram();
  const child = namespace.start(
    process.execPath,
    [...nodeFlags, file, '--config', mesh, '--identity-dir', options.identityDirectory, ...flags],
    {
      stdout: openSync(join(folder, `${name}.access.log`), 'w'),
      env: {
        AMBIT_WORKERS: '1',
        AMBIT_RUN_DIR: join(folder, `${name}.run`),
        NODE_NAME: 'bench',
        CONNECTION_TERMINATION_DEADLINE: '100ms',
        ...options.env,
      },
    },
  );
  await awaitTrue('readiness of the agent', child, () => isReady(namespace));
  return { name, pid: pidOf(child), stop: () => endChild(child) };
}

function isReady(namespace: Namespace): boolean {
  try {
    return namespace.run('curl', '-s', '--max-time', '1', 'http://127.0.0.1:15021/healthz/ready') === 'ready\n';
  } catch {
    return false;
  }
}

function pidOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error('the agent has no process id');
  return child.pid;
}
