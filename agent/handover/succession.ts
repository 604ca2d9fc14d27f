/**
 * The start of an agent on a node that another one serves: it waits until it could carry the node's connections itself, and
 * takes the listening sockets only then. Until that moment the other one goes on as if nobody had come.
 */
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { LentListener } from '../dataplane/messages.ts';
import { Predecessor } from './successor.ts';

const log = logger('handover');

/** How often the predecessor is looked at while this agent prepares itself. */
const LOOK_INTERVAL_MS = 100;
const RETRY_MS = 1_000;

export interface SuccessionOptions {
  readonly runDirectory: string;
  /** Resolves when this agent could serve: it knows the mesh and has the certificates of the pods. Never rejects. */
  readonly prepared: () => Promise<void>;
}

export interface Succession extends Disposable {
  /** The listening sockets of the other agent, which accepts nothing now. The caller's. */
  readonly listeners: readonly LentListener[];
  /** The node is served: the other agent retires. Rejects with `CLOSED` when it serves again; disposing leaves it in charge. */
  confirm(): Promise<void>;
}

/**
 * The sockets of the agent that served this node; undefined when there is none (any more). Takes as long as the preparation
 * takes and the other agent lives.
 */
export async function succeed(options: SuccessionOptions): Promise<Succession | undefined> {
  for (;;) {
    const predecessor = await Predecessor.find(options.runDirectory);
    if (predecessor === undefined) return undefined;
    log.info('another agent serves this node and will be followed');
    try {
      if (!(await outlives(predecessor, options.prepared()))) {
        log.warn('the other agent ended before it could be followed');
        predecessor[Symbol.dispose]();
        return undefined;
      }
      const listeners = await predecessor.takeOver();
      log.info({ listeners: listeners.length }, 'the listeners of the other agent are taken over');
      return {
        listeners,
        confirm: () => predecessor.confirm(),
        [Symbol.dispose]: () => predecessor[Symbol.dispose](),
      };
    } catch (thrown) {
      predecessor[Symbol.dispose]();
      log.warn({ reason: toAmbitError(thrown, 'USAGE').message }, 'the other agent did not hand over: once more');
    }
    await pause(RETRY_MS);
  }
}

/** True when `work` is done while the predecessor still lives. */
async function outlives(predecessor: Predecessor, work: Promise<void>): Promise<boolean> {
  let done = false;
  void work.then(() => {
    done = true;
  });
  while (!done) {
    if (!predecessor.isAlive()) return false;
    await Promise.race([work, pause(LOOK_INTERVAL_MS)]);
  }
  return predecessor.isAlive();
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
