/** `ambit sandbox logs <process>`: the last lines of a process of the running sandbox. */
import { Command } from 'commander';
import { type OutputFormat, outputOption, printResult } from './output.ts';
import { askSandbox, getSandbox } from './running-sandbox.ts';

export function sandboxLogsCommand(): Command {
  return new Command('logs')
    .description('The last lines of a process: control, "agent a", "agent b", or a pod such as shop/frontend')
    .argument('<process...>', 'name of the process')
    .addOption(outputOption())
    .action(async (words: string[], options: { readonly output: OutputFormat }) => {
      const answer = await askSandbox(await getSandbox(), 'GET', `/logs/${words.join(' ')}`);
      const lines: readonly unknown[] = Array.isArray(answer.lines) ? answer.lines : [];
      printResult(options.output, { lines }, () => lines.map(String).join('\n'));
    });
}
