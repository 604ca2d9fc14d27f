/** `ambit agent`: the node agent. Its settings come from the environment (docs/CONFIGURATION.md). */
import { Command } from 'commander';
import { agentProgram } from '../agent/build.ts';
import { runDeployable } from './run-deployable.ts';

export function agentCommand(): Command {
  return new Command('agent')
    .description('Run the node agent (settings: environment, see docs/CONFIGURATION.md)')
    .allowUnknownOption()
    .helpOption(false)
    .argument(
      '[arguments...]',
      'passed on: --dedicated <ns>/<name>/<sa>, --config <file>, --identity-dir <dir>, --capture',
    )
    .action(async (args: string[]) => {
      const { file, unbuilt } = await agentProgram();
      if (unbuilt !== undefined) process.stderr.write(`ambit: runs from its sources, with more memory: ${unbuilt}\n`);
      runDeployable(file, args);
    });
}
