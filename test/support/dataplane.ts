/**
 * The data plane of one node inside the test process: real workers, real pods, certificates from a test authority,
 * resources from local configuration text. No control plane, no CNI; rules come from the builder enrolment uses.
 */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Dataplane } from '../../agent/dataplane/dataplane.ts';
import type { TrafficSeriesView } from '../../agent/dataplane/messages.ts';
import type { EnrolledPod } from '../../agent/dataplane/pod-capture.ts';
import { TRAFFIC_LABELS } from '../../agent/dataplane/traffic-labels.ts';
import type { WorkerSettings } from '../../agent/dataplane/worker-settings.ts';
import { applyRules } from '../../agent/enrol/nft.ts';
import { PodRouting } from '../../agent/enrol/pod-routing.ts';
import { buildRuleset } from '../../agent/enrol/rules.ts';
import { parseLocalConfig } from '../../agent/state/local-config.ts';
import { MeshState } from '../../agent/state/mesh-state.ts';
import { ResourceFeed } from '../../agent/state/resource-feed.ts';
import { NO_OVERRIDES } from '../../core/enrolment/overrides.ts';
import { getIp } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { eventually } from './eventually.ts';
import type { TestPod } from './netns.ts';
import { createAuthority, type TestAuthority } from './pki.ts';

export interface TestDataplaneOptions {
  readonly node: string;
  readonly workers?: number;
  /** Shared by the nodes of a mesh. */
  readonly authority?: TestAuthority;
  readonly settings?: Partial<WorkerSettings>;
  /** Identities that get no certificate. */
  readonly withoutCertificate?: ReadonlySet<string>;
}

const LABEL_NAMES: readonly string[] = TRAFFIC_LABELS;

export type LogLine = Readonly<Record<string, string | number>>;

export class TestDataplane implements AsyncDisposable {
  readonly dataplane: Dataplane;
  readonly feed = new ResourceFeed(new MeshState());
  readonly #authority: TestAuthority;
  readonly #directory: string;
  readonly #logPath: string;
  readonly #logFd: number;
  readonly #options: TestDataplaneOptions;

  private constructor(options: TestDataplaneOptions) {
    this.#options = options;
    this.#authority = options.authority ?? createAuthority();
    this.#directory = mkdtempSync(join(tmpdir(), 'ambit-dataplane-'));
    this.#logPath = join(this.#directory, 'access.log');
    this.#logFd = openSync(this.#logPath, 'a');
    this.dataplane = new Dataplane({
      workers: options.workers ?? 2,
      feed: this.feed,
      onNeedIdentity: (identity) => this.issue(identity),
      settings: {
        node: options.node,
        network: '',
        clusterId: 'Kubernetes',
        trustDomain: 'cluster.local',
        outboundPolicy: 'ALLOW_ANY',
        forceEncryption: false,
        logFormat: 'json',
        accessLogFd: this.#logFd,
        readinessWaitMs: 2000,
        poolMaxStreamsPerConnection: 100,
        poolIdleReleaseMs: 300_000,
        keepaliveEnabled: true,
        ...options.settings,
      },
    });
  }

  static async start(options: TestDataplaneOptions): Promise<TestDataplane> {
    const started = new TestDataplane(options);
    await started.dataplane.ready;
    return started;
  }

  /** Applies local configuration text; resources that were there before stay. */
  configure(yaml: string): void {
    for (const update of parseLocalConfig(yaml)) assert.deepEqual(this.feed.apply(update).errors, []);
  }

  issue(identity: SpiffeId): void {
    if (this.#options.withoutCertificate?.has(identity)) {
      this.dataplane.removeIdentity(identity, 'the test gives no certificate');
      return;
    }
    const leaf = this.#authority.issue({ uris: [identity] });
    this.dataplane.putIdentity(identity, { ...leaf, rootsPem: this.#authority.pem });
  }

  /** Listens in the pod and captures its traffic. */
  async enrol(pod: TestPod, fields: Partial<EnrolledPod> = {}): Promise<EnrolledPod> {
    const enrolled: EnrolledPod = {
      uid: `uid-${pod.name}`,
      name: pod.label,
      namespace: 'default',
      serviceAccount: pod.label,
      ips: [getIp(pod.address), ...(pod.address6 === '' ? [] : [getIp(pod.address6)])],
      ...fields,
    };
    const netns = NetworkNamespace.openPath(pod.path);
    try {
      await this.dataplane.addPod(enrolled, netns.fd);
      const routing = PodRouting.open(netns);
      await routing.ensure();
      routing[Symbol.dispose]();
      await applyRules(netns, buildRuleset(NO_OVERRIDES));
    } finally {
      netns.close();
    }
    return enrolled;
  }

  /** Access-log lines so far. */
  logLines(): LogLine[] {
    const text = readFileSync(this.#logPath, 'utf8');
    return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));
  }

  /** Waits until exactly `count` lines fulfil `matches`, and returns them. */
  async awaitLines(count: number, matches: (line: LogLine) => boolean): Promise<LogLine[]> {
    return eventually(`${count} access log lines`, () => {
      const lines = this.logLines().filter(matches);
      assert.equal(lines.length, count, JSON.stringify(this.logLines(), undefined, 1));
      return lines;
    });
  }

  /** Sums over workers, by label values. */
  async traffic(wanted: Readonly<Partial<Record<(typeof TRAFFIC_LABELS)[number], string>>>): Promise<TrafficSums> {
    const sums = { opened: 0, closed: 0, failed: 0, received: 0, sent: 0 };
    for (const { traffic } of await this.dataplane.collect()) {
      for (const series of traffic) {
        if (!Object.entries(wanted).every(([name, value]) => labelOf(series, name) === value)) continue;
        sums.opened += series.opened;
        sums.closed += series.closed;
        sums.failed += series.failed;
        sums.received += series.received;
        sums.sent += series.sent;
      }
    }
    return sums;
  }

  /** A gauge or counter, added up over workers and over the series that have these labels. */
  async gauge(name: string, wanted: Readonly<Record<string, string>> = {}): Promise<number> {
    const workers = await this.dataplane.collect();
    return workers
      .flatMap(({ gauges }) => gauges.filter((entry) => entry.name === name))
      .filter(({ labels }) => Object.entries(wanted).every(([label, value]) => labels[label] === value))
      .reduce((sum, { value }) => sum + value, 0);
  }

  /** Refusals over all workers, by reason. */
  async refusals(): Promise<Record<string, number>> {
    const sums: Record<string, number> = {};
    for (const { refused } of await this.dataplane.collect()) {
      for (const { reason, count } of refused) sums[reason] = (sums[reason] ?? 0) + count;
    }
    return sums;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dataplane.stop();
    closeSync(this.#logFd);
    rmSync(this.#directory, { recursive: true });
  }
}

export type TrafficSums = Pick<TrafficSeriesView, 'opened' | 'closed' | 'failed' | 'received' | 'sent'>;

function labelOf(series: TrafficSeriesView, name: string): string | undefined {
  return series.labels[LABEL_NAMES.indexOf(name)];
}
