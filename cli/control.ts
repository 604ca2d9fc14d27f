/** `ambit control`: the control plane with its certificate authority. */
import { Command } from 'commander';
import { runDeployable } from './run-deployable.ts';

export function controlCommand(): Command {
  return new Command('control')
    .description('Run the control plane and certificate authority on a folder of Kubernetes YAML')
    .allowUnknownOption()
    .helpOption(false)
    .argument('[arguments...]', 'passed on: --config-dir <folder>, --state-dir <folder>, --listen <ip:port>, ...')
    .action((args: string[]) => runDeployable('control/main.ts', args));
}
