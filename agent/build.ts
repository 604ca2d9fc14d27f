/** The agent as it runs in production: `dist/agent-<hash>/main.js` and `worker.js` (see core/bundle.ts). */
import { join } from 'node:path';
import { type Bundle, buildBundle, builtProgram, type Program } from '../core/bundle.ts';

const SOURCE = join(import.meta.dirname, 'main.ts');
const AGENT: Bundle = {
  name: 'agent',
  entries: { main: SOURCE, worker: join(import.meta.dirname, 'dataplane', 'worker.ts') },
};

/** The agent of the present sources: a bundle where one can be built, else the sources. Never rejects. */
export function agentProgram(): Promise<Program> {
  return builtProgram(import.meta.filename, SOURCE);
}

/** Resolves with the path of the `main.js` of the present sources, below `output`. */
export function buildAgent(output?: string): Promise<string> {
  return buildBundle(AGENT, output);
}

if (import.meta.main) process.stdout.write(`${await buildAgent()}\n`);
