/**
 * Enrolment as the agent starts and stops it: take up the pods of the former run, then serve the CNI plugin, and sweep.
 */
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { CniServer, type CniServerOptions } from './cni-server.ts';
import { Enrolment, type EnrolmentOptions, type RestoreReport } from './enrolment.ts';
import type { PodView } from './pod-entry.ts';

const log = logger('enrol');

const SWEEP_INTERVAL_MS = 15_000;

export type EnrolmentServiceOptions = EnrolmentOptions & Pick<CniServerOptions, 'notReady'>;

export interface EnrolmentService {
  readonly enrolment: Enrolment;
  readonly restored: RestoreReport;
  list(): PodView[];
  /** Stops serving; pods keep their rules (an agent that restarts takes them up, until then they fail closed). */
  close(): Promise<void>;
}

/** Resolves when restored pods are captured again and the plugin can call. */
export async function startEnrolment(options: EnrolmentServiceOptions): Promise<EnrolmentService> {
  const enrolment = await Enrolment.open(options);
  const restored = await enrolment.restore();
  const server = await CniServer.open({ ...options, enrolment });
  let sweeping = Promise.resolve();
  const timer = setInterval(() => {
    sweeping = sweeping
      .then(() => enrolment.sweep())
      .catch((thrown) =>
        log.warn({ reason: toAmbitError(thrown, 'NETNS').message }, 'the sweep over pods was cut short'),
      );
  }, SWEEP_INTERVAL_MS);
  timer.unref();
  return {
    enrolment,
    restored,
    list: () => enrolment.list(),
    close: async () => {
      clearInterval(timer);
      await server.close();
      await sweeping;
      await enrolment.close();
    },
  };
}
