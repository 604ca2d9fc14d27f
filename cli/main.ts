/** The `ambit` command line: one file per command, put together here. */
import { Command } from 'commander';
import { agentCommand } from './agent.ts';
import { analyzeCommand } from './analyze.ts';
import { checkCommand } from './check.ts';
import { connectionsCommand } from './connections.ts';
import { controlCommand } from './control.ts';
import { installCommand, upgradeCommand } from './install.ts';
import { netpolCommand } from './netpol.ts';
import { endWhenReaderLeaves, printFailure } from './output.ts';
import { proxyStatusCommand } from './proxy-status.ts';
import { sandboxCommand } from './sandbox.ts';
import { statusCommand } from './status.ts';
import { sysdumpCommand } from './sysdump.ts';
import { testCommand } from './test-connectivity.ts';
import { tokenCommand } from './token.ts';
import { uninstallCommand } from './uninstall.ts';
import { versionCommand } from './version.ts';
import { whyCommand } from './why.ts';

/** The whole command tree; a function so that tests and the documentation can read it. */
export function buildProgram(): Command {
  return new Command('ambit')
    .enablePositionalOptions()
    .description('Ambient service mesh: node agent, control plane, sandbox and the questions an operator asks them')
    .showHelpAfterError('(ambit --help lists the commands)')
    .addCommand(agentCommand())
    .addCommand(controlCommand())
    .addCommand(sandboxCommand())
    .addCommand(installCommand())
    .addCommand(upgradeCommand())
    .addCommand(uninstallCommand())
    .addCommand(checkCommand())
    .addCommand(statusCommand())
    .addCommand(analyzeCommand())
    .addCommand(proxyStatusCommand())
    .addCommand(netpolCommand())
    .addCommand(connectionsCommand())
    .addCommand(testCommand())
    .addCommand(sysdumpCommand())
    .addCommand(whyCommand())
    .addCommand(tokenCommand())
    .addCommand(versionCommand());
}

if (import.meta.main) {
  endWhenReaderLeaves();
  try {
    await buildProgram().parseAsync();
  } catch (error) {
    printFailure(error);
    process.exitCode = 1;
  }
}
