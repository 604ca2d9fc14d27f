/** `ambit sandbox status`: processes and pods of the running sandbox. */
import { Command } from 'commander';
import { type OutputFormat, outputOption, printResult, renderTable } from './output.ts';
import { fetchStatus, getSandbox } from './running-sandbox.ts';

export function sandboxStatusCommand(): Command {
  return new Command('status')
    .description('Processes and pods of the running sandbox')
    .addOption(outputOption())
    .action(async (options: { readonly output: OutputFormat }) => {
      printResult(options.output, await fetchStatus(await getSandbox()), ({ processes, pods }) => {
        const podRows = pods.map((pod) => [
          pod.pod,
          pod.node,
          pod.ip,
          pod.state,
          pod.enrolled ? 'in mesh' : 'outside',
          pod.problem,
        ]);
        const processRows = processes.map((row) => [row.name, row.pid === 0 ? 'restarting' : 'running', row.restarts]);
        return [
          renderTable(['POD', 'NODE', 'IP', 'STATE', 'MESH', 'PROBLEM'], podRows),
          '',
          renderTable(['PROCESS', 'STATE', 'RESTARTS'], processRows),
        ].join('\n');
      });
    });
}
