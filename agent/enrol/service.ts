/**
 * Enrolment as the agent starts and stops it: take up the pods of the former run, then serve the CNI plugin, and sweep.
 */
import { Backoff } from '../../core/backoff.ts';
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { CniServer, type CniServerOptions } from './cni-server.ts';
import { Enrolment, type EnrolmentOptions, type RestoreReport } from './enrolment.ts';
import { probeNft } from './nft.ts';
import type { PodView } from './pod-entry.ts';

const log = logger('enrol');

const SWEEP_INTERVAL_MS = 15_000;
/** A pod that could not be taken up is cut off, so it is tried again soon, then ever less often. */
const FIRST_RETRY_MS = 250;

export type EnrolmentServiceOptions = EnrolmentOptions & Pick<CniServerOptions, 'notReady'>;

export interface EnrolmentService {
  readonly enrolment: Enrolment;
  readonly restored: RestoreReport;
  list(): PodView[];
  /** Stops serving; pods keep their rules (an agent that restarts takes them up, until then they fail closed). */
  close(): Promise<void>;
}

/** Resolves when restored pods are captured again and the plugin can call. Rejects with `MISSING_TOOL` without nft. */
export async function startEnrolment(options: EnrolmentServiceOptions): Promise<EnrolmentService> {
  await probeNft();
  const enrolment = await Enrolment.open(options);
  const restored = await enrolment.restore();
  const server = await CniServer.open({ ...options, enrolment });
  const sweeper = new Sweeper(enrolment);
  return {
    enrolment,
    restored,
    list: () => enrolment.list(),
    close: async () => {
      await sweeper.close();
      await server.close();
      await enrolment.close();
    },
  };
}

/** Sweeps over the pods from time to time, one sweep after another. */
class Sweeper {
  readonly #enrolment: Enrolment;
  readonly #backoff = new Backoff({ firstMs: FIRST_RETRY_MS, maxMs: SWEEP_INTERVAL_MS });
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(enrolment: Enrolment) {
    this.#enrolment = enrolment;
    this.#schedule();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #schedule(): void {
    if (this.#closed) return;
    const broken = this.#enrolment.list().some(({ state }) => state === 'broken');
    if (!broken) this.#backoff.reset();
    this.#timer = setTimeout(
      () => {
        this.#running = this.#sweep();
      },
      broken ? this.#backoff.nextDelayMs() : SWEEP_INTERVAL_MS,
    ).unref();
  }

  async #sweep(): Promise<void> {
    try {
      await this.#enrolment.sweep();
    } catch (thrown) {
      log.warn({ reason: toAmbitError(thrown, 'NETNS').message }, 'the sweep over pods was cut short');
    }
    this.#schedule();
  }
}
