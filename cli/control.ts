/** `ambit control`: the control plane with its certificate authority. Its settings are in docs/CONFIGURATION.md. */
import { Command } from 'commander';
import { controlProgram } from '../control/build.ts';
import { runDeployable } from './run-deployable.ts';

export function controlCommand(): Command {
  return new Command('control')
    .description('Run the control plane and certificate authority on a cluster or on a folder of Kubernetes YAML')
    .allowUnknownOption()
    .helpOption(false)
    .argument('[arguments...]', 'passed on: --source kubernetes, --config-dir <folder>, --state-dir <folder>, ...')
    .action(async (args: string[]) => {
      const { file, unbuilt } = await controlProgram();
      if (unbuilt !== undefined) process.stderr.write(`ambit: runs from its sources, with more memory: ${unbuilt}\n`);
      runDeployable(file, args);
    });
}
