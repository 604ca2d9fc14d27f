/**
 * The command line inside the image of Ambit: the questions an operator asks there (`kubectl exec`), without what needs a
 * checkout (sandbox) or has an entry of its own (agent, control plane).
 */
import { Command } from 'commander';
import { analyzeCommand } from './analyze.ts';
import { connectionsCommand } from './connections.ts';
import { endWhenReaderLeaves, printFailure } from './output.ts';
import { versionCommand } from './version.ts';
import { whyCommand } from './why.ts';

/** The commands of the image. */
export function buildImageProgram(): Command {
  return new Command('ambit')
    .enablePositionalOptions()
    .description('The questions an operator asks an agent or a cluster')
    .showHelpAfterError('(--help lists the commands)')
    .addCommand(analyzeCommand())
    .addCommand(connectionsCommand())
    .addCommand(whyCommand())
    .addCommand(versionCommand());
}

if (import.meta.main) {
  endWhenReaderLeaves();
  try {
    await buildImageProgram().parseAsync();
  } catch (error) {
    printFailure(error);
    process.exitCode = 1;
  }
}
