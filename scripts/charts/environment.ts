/**
 * Which environment variable of agent and control plane has its value from where in the charts:
 *
 *   settings      a row of the configuration table names the chart value (`chart`): the template is generated
 *   by hand       the workload's template sets it, since it needs more than one value
 *   env           neither: a user may set it by its name, and nothing else; values.schema.json has the names
 */
import { SETTINGS } from '../../agent/config.ts';
import type { Setting as AgentSetting } from '../../agent/setting.ts';
import { CONTROL_SETTINGS, type Setting as ControlSetting } from '../../control/config.ts';

export interface ChartVariable {
  /** Name and further names; the first is the one that the chart sets. */
  readonly names: readonly string[];
  /** Path in values.yaml, where a row names one. */
  readonly value: string | undefined;
  /** What the program says to a text. */
  readonly understands: (text: string) => boolean;
}

/** Variables that Node.js reads, or that are read outside of the table. */
const OF_THE_PROCESS = ['NODE_EXTRA_CA_CERTS', 'NODE_OPTIONS', 'UV_THREADPOOL_SIZE'];

export const AGENT_VARIABLES: readonly ChartVariable[] = Object.values<AgentSetting<unknown>>(SETTINGS).map(
  ({ env, chart, parse }) => ({ names: env, value: chart, understands: (text) => parse(text).ok }),
);
export const CONTROL_VARIABLES: readonly ChartVariable[] = Object.values<ControlSetting<unknown>>(CONTROL_SETTINGS).map(
  ({ env, chart, parse }) => ({ names: [env], value: chart, understands: (text) => parse(text).ok }),
);

/** Variables that the template of a workload sets itself, by their names. */
export function variablesOf(template: string): string[] {
  return [...template.matchAll(/^ *- name: ([A-Z][A-Z0-9_]+)$/gm)].map(([, name = '']) => name);
}

/** What `env` of the chart may hold: what nothing else sets. Two sources of one variable would be an invalid pod. */
export function freeVariables(variables: readonly ChartVariable[], template: string): string[] {
  const taken = new Set(variablesOf(template));
  const free = variables.filter(({ names, value }) => value === undefined && !names.some((name) => taken.has(name)));
  return [...free.flatMap(({ names }) => names), ...OF_THE_PROCESS].sort();
}

/** A named template with the variables that follow from the table. */
export function settingsTemplate(chart: string, variables: readonly ChartVariable[], notice: string): string {
  const entries = variables.flatMap(({ names, value }) =>
    value === undefined ? [] : [`- name: ${names[0]}\n  value: {{ .Values.${value} | quote }}`],
  );
  return `{{- /* ${notice} from the settings. */ -}}\n{{- define "${chart}.settings" -}}\n${entries.join('\n')}\n{{- end -}}\n`;
}
