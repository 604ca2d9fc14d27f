/**
 * Entry of `ambit agent`: environment and flags to configuration to app; signals to drain. The first SIGTERM or SIGINT
 * drains, a second one ends at once.
 */
import { parseArgs } from 'node:util';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { logger } from '../core/log.ts';
import { probeRuntime } from '../reactor/probe.ts';
import { App } from './app.ts';
import { type AgentConfig, type AgentFlags, readConfig } from './config.ts';
import { ControlRelays } from './control-relay.ts';

const log = logger('agent');

const EXIT_FAILED = 1;
/** As shells report a process that was interrupted. */
const EXIT_INTERRUPTED = 130;

/** Runs the agent until a signal ends it; resolves to the exit status. Mistakes are logged, never thrown. */
export async function runAgent(
  environment: Readonly<Record<string, string | undefined>>,
  flags: AgentFlags,
): Promise<number> {
  let app: App | undefined;
  try {
    const config = readConfig(environment, flags);
    requireRuntime();
    app = new App(config, await controlRelays(config));
    const stopped = signalled();
    await Promise.race([app.start(), stopped]);
    await Promise.race([stopped, app.failure]);
    await app.stop();
    return 0;
  } catch (thrown) {
    const error = toAmbitError(thrown, 'USAGE');
    log.fatal({ code: error.code, detail: error.message.split('\n'), hint: error.row.hint }, 'the agent cannot go on');
    await app?.abort();
    return EXIT_FAILED;
  }
}

/** Only a dedicated agent lives behind capture rules. */
async function controlRelays(config: AgentConfig): Promise<ControlRelays | undefined> {
  if (config.dedicated === undefined) return undefined;
  return ControlRelays.open([config.xdsAddress, config.caAddress].filter((address) => address !== undefined));
}

/** Throws one error that names everything the data plane misses: symbols, kernel features, capabilities. */
function requireRuntime(): void {
  const problems = probeRuntime();
  const [first] = problems;
  if (first !== undefined) throw new AmbitError(first.code, problems.map(({ text }) => text).join('\n'));
}

function signalled(): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    const onSignal = (): void => {
      if (asked) process.exit(EXIT_INTERRUPTED);
      asked = true;
      resolve();
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      dedicated: { type: 'string' },
      config: { type: 'string' },
      'identity-dir': { type: 'string' },
      capture: { type: 'boolean' },
    },
  });
  const { dedicated, config, capture } = values;
  const identityDir = values['identity-dir'];
  process.exitCode = await runAgent(process.env, {
    ...(dedicated === undefined ? {} : { dedicated }),
    ...(config === undefined ? {} : { config }),
    ...(identityDir === undefined ? {} : { identityDir }),
    ...(capture === undefined ? {} : { capture }),
  });
}
