/**
 * The control plane as a process: configuration, start, orderly end on SIGTERM and SIGINT. SIGUSR2 begins a rotation of
 * the CA's root.
 */

import { toAmbitError } from '../core/errors.ts';
import { logger } from '../core/log.ts';
import { ControlPlane } from './app.ts';
import { controlHelp, readControlConfig } from './config.ts';

const log = logger('control');

async function run(): Promise<void> {
  const args = process.argv.slice(2);
  if (args.includes('--help')) {
    process.stdout.write(controlHelp());
    return;
  }
  const control = new ControlPlane(readControlConfig(args, process.env));
  process.on('SIGUSR2', () => void control.rotateRoot());
  const stopped = new Promise<void>((resolve, reject) => {
    let stopping = false;
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        // The second signal does not wait for anybody.
        if (stopping) process.exit(1);
        stopping = true;
        control.stop().then(resolve, reject);
      });
    }
  });
  // Stopped before it could serve: it will not.
  await Promise.race([control.start(), stopped]);
  await stopped;
}

run().catch((thrown: unknown) => {
  const { code, message } = toAmbitError(thrown, 'USAGE');
  log.fatal({ code, reason: message }, 'control plane cannot run');
  process.exitCode = 1;
  // Whatever is still open must not keep a failed process alive.
  setImmediate(() => process.exit());
});
