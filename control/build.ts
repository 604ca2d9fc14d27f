/** The control plane as it runs in production: `dist/control-<hash>/main.js` (see core/bundle.ts). */
import { join } from 'node:path';
import { type Bundle, buildBundle, builtProgram, type Program } from '../core/bundle.ts';

const SOURCE = join(import.meta.dirname, 'main.ts');
const CONTROL: Bundle = { name: 'control', entries: { main: SOURCE } };

/** The control plane of the present sources: a bundle where one can be built, else the sources. Never rejects. */
export function controlProgram(): Promise<Program> {
  return builtProgram(import.meta.filename, SOURCE);
}

/** Resolves with the path of the `main.js` of the present sources, below `output`. */
export function buildControl(output?: string): Promise<string> {
  return buildBundle(CONTROL, output);
}

if (import.meta.main) process.stdout.write(`${await buildControl()}\n`);
