/** Enrolment as the agent starts it: a pod that could not be taken up is served again by itself, soon. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startEnrolment } from '../../agent/enrol/service.ts';
import { DEFAULT_ELIGIBILITY } from '../../core/enrolment/eligibility.ts';
import { AmbitError } from '../../core/errors.ts';
import { EnrolmentWorld, requestFor } from '../support/enrolment.ts';
import { StandInCapture } from '../support/stand-in-capture.ts';

const DEADLINE_MS = 5_000;

/** A data plane whose first attempts fail; `served` resolves with the first success. */
class StartingCapture extends StandInCapture {
  readonly #served = Promise.withResolvers<void>();
  readonly served = this.#served.promise;
  #failures: number;

  constructor(failures: number) {
    super();
    this.#failures = failures;
  }

  override async addPod(...args: Parameters<StandInCapture['addPod']>): Promise<void> {
    if (this.#failures-- > 0) this.failNext = new AmbitError('SYSTEM_CALL', 'still starting');
    await super.addPod(...args);
    this.#served.resolve();
  }
}

describe('the enrolment service', () => {
  it('tries again by itself to take up a pod of the former run', async () => {
    await using world = await EnrolmentWorld.create();
    const pod = world.addPod('client');
    const first = await world.open();
    await first.enrolment.add(requestFor(pod));
    await first.enrolment.close();
    await first.capture[Symbol.asyncDispose]();

    await using capture = new StartingCapture(2);
    const { runDirectory, directory } = world;
    const service = await startEnrolment({
      runDirectory,
      directory,
      capture,
      eligibility: DEFAULT_ELIGIBILITY,
      notReady: () => undefined,
    });
    try {
      assert.deepEqual(service.restored, { restored: 0, dropped: 0, broken: 1, corruptFiles: 0 });
      await Promise.race([capture.served, expired()]);
      assert.equal((await service.enrolment.check(requestFor(pod))).kind, 'done');
      assert.deepEqual(
        service.list().map(({ state }) => state),
        ['enrolled'],
      );
    } finally {
      await service.close();
    }
  });
});

function expired(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error('the pod was not taken up again')), DEADLINE_MS).unref();
  });
}
