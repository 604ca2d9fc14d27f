/** `ambit sandbox kill agent <node>`: SIGKILL to a node's agent, to watch it come back. */
import { Command } from 'commander';
import { type OutputFormat, outputOption, printResult } from './output.ts';
import { askSandbox, getSandbox } from './running-sandbox.ts';

export function sandboxKillCommand(): Command {
  const agent = new Command('agent')
    .description('Kill the agent of a node (kill -9); the sandbox starts it again')
    .argument('<node>', 'a or b')
    .addOption(outputOption())
    .action(async (node: string, options: { readonly output: OutputFormat }) => {
      const answer = await askSandbox(await getSandbox(), 'POST', `/kill/${node}`);
      printResult(options.output, answer, () =>
        [
          `agent ${node} was killed (kill -9).`,
          'Its pods keep their rules: new connections fail until it is back, which takes about a second.',
        ].join('\n'),
      );
    });
  return new Command('kill').description('Kill a process of the sandbox').addCommand(agent);
}
