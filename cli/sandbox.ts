/** `ambit sandbox`: a two-node mesh on this machine, and commands that talk to it from another terminal. */
import { Command } from 'commander';
import { renderCheckRow } from '../sandbox/check/report.ts';
import { runOnHost } from '../sandbox/host.ts';
import { compareHostStates, readHostState } from '../sandbox/leftovers.ts';
import { checkMachine } from '../sandbox/preflight.ts';
import { type OutputFormat, outputOption } from './output.ts';
import { sandboxCaptureCommand } from './sandbox-capture.ts';
import { sandboxExecCommand } from './sandbox-exec.ts';
import { sandboxKillCommand } from './sandbox-kill.ts';
import { sandboxLogsCommand } from './sandbox-logs.ts';
import { sandboxStatusCommand } from './sandbox-status.ts';

interface SandboxOptions {
  readonly check?: boolean;
  readonly output: OutputFormat;
}

export function sandboxCommand(): Command {
  return new Command('sandbox')
    .enablePositionalOptions()
    .description('Run a two-node mesh with real agents, CNI plugin, control plane and pods; Ctrl-C removes it')
    .option('--check', 'prove unattended that everything works, and exit non-zero if not')
    .addOption(outputOption())
    .action(runSandbox)
    .addCommand(sandboxStatusCommand())
    .addCommand(sandboxExecCommand())
    .addCommand(sandboxCaptureCommand())
    .addCommand(sandboxKillCommand())
    .addCommand(sandboxLogsCommand());
}

async function runSandbox(options: SandboxOptions): Promise<void> {
  const { pluginDirectories } = await checkMachine();
  const json = options.output === 'json';
  const check = options.check === true;
  const before = await readHostState();
  const result = await runOnHost({ worldOptions: { check, json, pluginDirectories } });
  const traces = [...result.leftovers, ...compareHostStates(before, await readHostState())];
  if (check) {
    const detail = `${result.namespaces} namespaces looked for, host state byte-identical`;
    const row = { id: 'end.nothing-left', ok: traces.length === 0, detail: traces.join('; ') || detail };
    process.stdout.write(`${renderCheckRow(row, { json, color: process.stdout.isTTY })}\n`);
  } else if (traces.length > 0) {
    process.stderr.write(`sandbox: left behind or changed meanwhile:\n${traces.join('\n')}\n`);
  } else if (result.exitStatus === 0) {
    process.stdout.write(`nothing left: ${result.namespaces} namespaces are gone, the host is as it was\n`);
  }
  process.exitCode = result.exitStatus !== 0 ? result.exitStatus : traces.length > 0 ? 2 : 0;
}
