/** One check: runs against the sandbox and resolves with what it measured, or throws with what did not hold. */
import type { CheckContext } from './context.ts';

export interface Check {
  /** Stable name, `group.what`. */
  readonly id: string;
  run(context: CheckContext): Promise<string>;
}
