/** `ambit sandbox exec <pod> -- <command>`: runs a command inside a pod, on this terminal. */
import { Command } from 'commander';
import { awaitExit, enterPod, enterWorld } from './enter-world.ts';
import { type OutputFormat, outputOption, printResult } from './output.ts';
import { fetchStatus, findPodByName, getSandbox } from './running-sandbox.ts';

export function sandboxExecCommand(): Command {
  return new Command('exec')
    .description('Run a command inside a pod: ambit sandbox exec frontend -- curl -s http://catalog/items')
    .argument('<pod>', 'name or namespace/name')
    .argument('<command...>', 'what to run, after --')
    .showHelpAfterError('(put -- before the command: ambit sandbox exec frontend -- curl -s http://catalog/items)')
    .addOption(outputOption())
    .action(async (podName: string, command: string[], options: { readonly output: OutputFormat }) => {
      const run = await getSandbox();
      const pod = findPodByName(await fetchStatus(run), podName);
      const argv = enterPod(pod.pod, pod.netns, command);
      if (options.output === 'text') {
        process.exitCode = await awaitExit(enterWorld(run, argv, 'inherit'));
        return;
      }
      const child = enterWorld(run, argv, ['inherit', 'pipe', 'pipe']);
      const chunks = { stdout: '', stderr: '' };
      for (const name of ['stdout', 'stderr'] as const) {
        child[name]?.setEncoding('utf8').on('data', (text: string) => {
          chunks[name] += text;
        });
      }
      const status = await awaitExit(child);
      printResult('json', { pod: pod.pod, command, status, ...chunks }, () => '');
      process.exitCode = status;
    });
}
