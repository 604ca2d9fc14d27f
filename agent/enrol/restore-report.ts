/** What became of the pods of a former run, and how they are taken up: some at a time. */

/** Each pod reads its rules with a program of its own. */
const RESTORED_AT_ONCE = 8;

export type Restored = 'restored' | 'dropped' | 'broken';

export interface RestoreReport {
  readonly restored: number;
  /** Pods whose namespace is gone, or that were leaving: their connections ended with the former agent. */
  readonly dropped: number;
  readonly broken: number;
  readonly corruptFiles: number;
}

/** Runs `restore` for every pod; it never rejects. */
export async function restoreAll<T>(
  pods: readonly T[],
  corruptFiles: number,
  restore: (pod: T) => Promise<Restored>,
): Promise<RestoreReport> {
  const counts = { restored: 0, dropped: 0, broken: 0 };
  const left = pods.values();
  const work = async (): Promise<void> => {
    for (const pod of left) counts[await restore(pod)]++;
  };
  await Promise.all(Array.from({ length: RESTORED_AT_ONCE }, work));
  return { ...counts, corruptFiles };
}
