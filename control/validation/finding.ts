/** What the checks say about one object: a stable code, where, what happens at run time and how to correct it. Pure data. */
import { FINDING_TABLE, type FindingCode } from './codes.ts';

/**
 * `error`: something does not work as written; the webhook refuses the object and `ambit analyze` ends with 2.
 * `warning`: it works, but hardly as meant; ends with 1. `info`: worth knowing; ends with 0.
 */
export type Severity = 'error' | 'warning' | 'info';

export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** `<kind>/<namespace>/<name>`, the namespace empty for objects of the cluster. */
  readonly object: string;
  /** `rules[0].to[0].operation.methods`; empty when the whole object is meant. */
  readonly field: string;
  /** What is wrong, with the particulars. */
  readonly message: string;
  /** What happens at run time. */
  readonly effect: string;
  /** What to do; a command where one does it. */
  readonly fix: string;
  /** A manifest that would correct it, as YAML. */
  readonly companion?: string;
}

/** A finding with the row of its code; `fix` and `effect` where the particulars say more than the row. */
export function finding(
  code: FindingCode,
  at: { readonly object: string; readonly field?: string },
  message: string,
  more: {
    readonly effect?: string;
    readonly fix?: string;
    readonly companion?: string;
    readonly severity?: Severity;
  } = {},
): Finding {
  const row = FINDING_TABLE[code];
  return {
    code,
    severity: more.severity ?? row.severity,
    object: at.object,
    field: at.field ?? '',
    message,
    effect: more.effect ?? row.effect,
    fix: more.fix ?? row.fix,
    ...(more.companion === undefined ? {} : { companion: more.companion }),
  };
}

/** `AuthorizationPolicy shop/get-only`, `Namespace shop`. */
export function describeObject(key: string): string {
  const [kind = '', namespace = '', ...name] = key.split('/');
  return namespace === '' ? `${kind} ${name.join('/')}` : `${kind} ${namespace}/${name.join('/')}`;
}

/** One sentence as the webhook refuses with it: object, field, what, what happens, how to correct it, code. */
export function sentence(found: Finding): string {
  const field = found.field === '' ? '' : `${found.field} `;
  return `${describeObject(found.object)}: ${field}${found.message}; ${found.effect}. ${found.fix} ${found.code}`;
}
