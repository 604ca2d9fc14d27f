/**
 * One part of the control plane: what it opens in `start` it closes in `stop`. Parts start in the order in which
 * they are listed and stop in the opposite one; a part that cannot start takes down those that stand already.
 */
export interface Part {
  /** As readiness and the log name it. */
  readonly name: string;
  start(): Promise<void>;
  /** Safe at any time, also when `start` failed or never ran. Never rejects. */
  stop(): Promise<void>;
  /** What the part still waits for before it can serve, in words. Empty: nothing. */
  pending(): readonly string[];
}

/** Starts `parts` in order. When one fails, all are stopped and the failure is thrown. */
export async function startParts(parts: readonly Part[]): Promise<void> {
  try {
    for (const part of parts) await part.start();
  } catch (thrown) {
    await stopParts(parts);
    throw thrown;
  }
}

/** Stops `parts`, the last one first. */
export async function stopParts(parts: readonly Part[]): Promise<void> {
  for (const part of parts.toReversed()) await part.stop();
}

/** Parts that need nothing of each other, as one: they start and stop side by side. */
export function together(...parts: readonly Part[]): Part {
  return {
    name: parts.map(({ name }) => name).join(', '),
    start: async () => {
      await Promise.all(parts.map((part) => part.start()));
    },
    stop: async () => {
      await Promise.all(parts.map((part) => part.stop()));
    },
    pending: () => parts.flatMap((part) => part.pending()),
  };
}
