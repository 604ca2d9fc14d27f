/**
 * Entry of a data plane worker thread: its own event loop, its own copy of the state, its own tunnels and counters. It
 * does what the main thread's messages say (messages.ts) and decides everything about connections by itself.
 */
import { workerData } from 'node:worker_threads';
import { KEEP_CODE_AFTER_MS, keepCompiledCode } from '../../core/compiled-code.ts';
import { AmbitError, toAmbitError, unreachable } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { TunnelPool } from '../../hbone/pool.ts';
import { Revocations } from '../../hbone/revocation.ts';
import { HboneServer } from '../../hbone/server.ts';
import { EventLoop } from '../../reactor/loop.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { releaseWhenIdle } from '../../reactor/spare-memory.ts';
import { discardDescriptors } from '../../reactor/unix-socket.ts';
import { MeshState } from '../state/mesh-state.ts';
import type { ResourceUpdate } from '../state/resource.ts';
import { ConnectionSeats } from './connection-seats.ts';
import { Drain } from './drain.ts';
import { DryRunReport } from './dry-run-report.ts';
import { IdentityStore } from './identity-store.ts';
import { InboundConnection } from './inbound.ts';
import { Inbox } from './inbox.ts';
import { LocalPod } from './local-pod.ts';
import { LogWriter } from './log-writer.ts';
import type { FromWorker, InheritedListener, ToWorker, WorkerStart } from './messages.ts';
import type { EnrolledPod } from './pod-capture.ts';
import {
  closeListeners,
  holdTunnels,
  keepListeners,
  lendListeners,
  listensEverywhere,
  openListeners,
} from './pod-listeners.ts';
import { PodTable } from './pod-table.ts';
import { PolicyRecheck } from './policy-recheck.ts';
import { Recorder } from './recorder.ts';
import { identityKey, RESOURCES_KEY, WaitQueue, workloadKey } from './wait-queue.ts';
import type { WorkerContext } from './worker-context.ts';
import { workerGauges } from './worker-gauges.ts';

/** Connections of one worker that may wait for an announcement or a certificate at the same time. */
const MAX_WAITING = 4096;

const log = logger('dataplane');

class DataplaneWorker {
  readonly #start: WorkerStart;
  readonly #context: WorkerContext;
  readonly #recheck: PolicyRecheck;
  readonly #writer: LogWriter | undefined;
  readonly #revocations = new Revocations();
  readonly #unbelieved = { source: 0, destination: 0 };
  #defects = 0;
  #draining = false;
  #drain: Drain | undefined;
  /** Its listeners are on offer to a successor. */
  #lending = false;

  constructor(start: WorkerStart) {
    this.#start = start;
    const { settings } = start;
    const loop = EventLoop.open();
    loop.onHandlerError = (error) => this.#onDefect(error);
    const state = new MeshState();
    const pods = new PodTable(state);
    const { accessLogFd } = settings;
    this.#writer = accessLogFd === undefined ? undefined : new LogWriter(loop, accessLogFd);
    const recorder = new Recorder(loop, this.#writer, settings.logFormat);
    const identities = new IdentityStore(
      () => loop.nowMs,
      (identity) => this.#tell({ kind: 'needIdentity', identity }),
    );
    this.#context = {
      loop,
      settings,
      state,
      routeSettings: {
        outboundPolicy: settings.outboundPolicy,
        forceEncryption: settings.forceEncryption,
        isLocalPod: (uid) => pods.findByWorkload(uid) !== undefined,
      },
      pods,
      identities,
      pool: new TunnelPool(loop, {
        checkChain: (chain) => this.#believe('source', chain),
        maxStreamsPerSession: settings.poolMaxStreamsPerConnection,
        idleReleaseMs: settings.poolIdleReleaseMs,
      }),
      server: new HboneServer<LocalPod>(loop, {
        tls: (_local, pod) => identities.server(pod.identity),
        trustDomain: settings.trustDomain,
        checkChain: (chain) => this.#believe('destination', chain),
        onCrowded: (crowded) => {
          if (!this.#lending) holdTunnels(pods.all(), crowded);
        },
        onConnect: (request) => InboundConnection.accept(this.#context, request),
        onRequestRefused: ({ remote, local, error }) =>
          recorder.refuse({ source: remote, destination: local, direction: 'inbound', error }),
        onSessionRefused: ({ remote, local, error }) =>
          recorder.refuse({ source: remote, destination: local, direction: 'inbound', error }),
      }),
      recorder,
      dryRuns: new DryRunReport(state, this.#writer, settings.logFormat, () => loop.nowMs),
      waits: new WaitQueue(loop, settings.readinessWaitMs, MAX_WAITING),
      seats: new ConnectionSeats(start.descriptors, pods, () => loop.nowMs),
    };
    this.#recheck = new PolicyRecheck(loop, state, recorder);
  }

  async run(): Promise<void> {
    const { loop } = this.#context;
    const inbox = new Inbox<ToWorker>(loop, this.#start.port, (message) => this.#handle(message));
    const wakeUp = loop.openWakeUp(() => inbox.read());
    releaseWhenIdle(loop);
    loop.setTimer(KEEP_CODE_AFTER_MS, keepCompiledCode);
    this.#tell({ kind: 'ready', wakeUpFd: wakeUp.fd });
    await loop.run();
    wakeUp.close();
    loop.close();
    this.#start.port.close();
  }

  #tell(message: FromWorker): void {
    this.#start.port.postMessage(message);
  }

  #handle(message: ToWorker): void {
    const { identities, recorder, waits } = this.#context;
    switch (message.kind) {
      case 'pod':
        this.#addPod(message.pod, message.netnsFd, message.inherited);
        return;
      case 'podRemoved':
        this.#removePod(message.uid);
        return;
      case 'podLeaving':
        this.#context.pods.setLeaving(message.uid, message.leaving);
        return;
      case 'resources':
        this.#apply(message.update);
        return;
      case 'identity':
        identities.put(message.identity, message.material);
        this.#context.pool.drainIdentity(message.identity);
        waits.wake(identityKey(message.identity));
        return;
      case 'identityGone':
        identities.remove(message.identity, message.detail);
        return;
      case 'ticketKeys':
        identities.setTicketKeys(message.keys);
        return;
      case 'revocations':
        this.#revocations.set(message.keys, message.problem);
        this.#context.pool.recheckChains();
        this.#context.server.recheckChains();
        return;
      case 'ping':
        this.#tell({ kind: 'pong', request: message.request });
        return;
      case 'collect':
        this.#collect(message.request);
        return;
      case 'connections': {
        const connections = recorder.views(this.#start.index);
        this.#tell({ kind: 'connectionList', request: message.request, connections });
        return;
      }
      case 'listening': {
        const pod = this.#context.pods.find(message.uid);
        const listening = pod !== undefined && listensEverywhere(pod);
        this.#tell({ kind: 'listeningAnswer', request: message.request, listening });
        return;
      }
      case 'lendListeners': {
        this.#lending = true;
        const listeners = lendListeners(this.#context.pods.all());
        this.#tell({ kind: 'lentListeners', request: message.request, listeners });
        return;
      }
      case 'keepListeners':
        this.#lending = false;
        keepListeners(this.#context);
        return;
      case 'retire':
        this.#retire();
        return;
      case 'drain':
        this.#beginDrain(message.graceMs);
        return;
      case 'stop':
        this.#stop();
        return;
      default:
        unreachable(message);
        return;
    }
  }

  /** Why a peer's chain is not believed; counted. */
  #believe(reporter: 'source' | 'destination', chain: readonly Uint8Array[]): AmbitError | undefined {
    const error = this.#revocations.check(chain);
    if (error !== undefined) this.#unbelieved[reporter]++;
    return error;
  }

  #addPod(pod: EnrolledPod, netnsFd: number, inherited: readonly InheritedListener[] = []): void {
    const { pods, state, settings } = this.#context;
    if (this.#draining || this.#lending) {
      discardDescriptors(inherited.map(({ descriptor }) => descriptor));
      this.#tell({ kind: 'podListening', uid: pod.uid, problem: DRAINING });
      return;
    }
    if (pods.find(pod.uid) !== undefined) this.#closePod(pod.uid, 'the pod was enrolled again');
    try {
      const netns = NetworkNamespace.openPath(`/proc/self/fd/${netnsFd}`);
      const local = new LocalPod(pod, netns, state, settings);
      try {
        // The namespace was opened by the main thread already: nothing before this line fails with sockets in hand.
        openListeners(this.#context, local, inherited);
      } catch (error) {
        netns.close();
        throw error;
      }
      pods.put(local);
      this.#tell({ kind: 'podListening', uid: pod.uid });
    } catch (error) {
      const { code, message } = toAmbitError(error, 'NETNS');
      this.#tell({ kind: 'podListening', uid: pod.uid, problem: { code, detail: message } });
    }
  }

  #removePod(uid: string): void {
    this.#closePod(uid, 'the pod was removed');
    this.#tell({ kind: 'podGone', uid });
  }

  #closePod(uid: string, reason: string): void {
    const { pods, recorder, server, pool, waits } = this.#context;
    const pod = pods.find(uid);
    if (pod === undefined) return;
    pod.gone = true;
    closeListeners(pod);
    pods.remove(uid);
    for (const record of recorder.liveOf(pod)) record.owner.cut(new AmbitError('DRAINED', reason));
    waits.wake(workloadKey(uid));
    waits.wake(identityKey(pod.identity));
    server.close(pod);
    pool.drainIdentity(pod.identity);
    pod.netns.close();
  }

  #apply(update: ResourceUpdate): void {
    const { state, waits, pods } = this.#context;
    const { changed } = state.apply(update);
    if (!changed) return;
    for (const pod of pods.all()) {
      if (pod.findWorkload() !== undefined) waits.wake(workloadKey(pod.pod.uid));
    }
    waits.wake(RESOURCES_KEY);
    this.#recheck.schedule();
  }

  #collect(request: number): void {
    const { recorder } = this.#context;
    this.#tell({
      kind: 'collected',
      request,
      metrics: {
        worker: this.#start.index,
        traffic: recorder.traffic(),
        refused: recorder.refused(),
        gauges: workerGauges(this.#context, {
          droppedLogLines: this.#writer?.droppedLines ?? 0,
          policyCuts: this.#recheck.cuts,
          unbelieved: this.#unbelieved,
          drained: this.#drain?.result ?? { ended: 0, cut: 0 },
          defects: this.#defects,
        }),
      },
    });
  }

  /** No new connections, GOAWAY. */
  #retire(): void {
    const { pods, server } = this.#context;
    this.#draining = true;
    for (const pod of pods.all()) closeListeners(pod);
    server.drain();
  }

  #beginDrain(graceMs: number): void {
    const { loop, pool, server, recorder } = this.#context;
    this.#retire();
    this.#drain = Drain.begin(loop, recorder, graceMs, (result, cutByPod) => {
      this.#cutAll('the agent stops');
      pool.close();
      server.close();
      this.#writer?.flush();
      this.#tell({ kind: 'drained', ...result, cutByPod });
    });
  }

  #cutAll(reason: string): void {
    for (const record of this.#context.recorder.live()) record.owner.cut(new AmbitError('DRAINED', reason));
  }

  #stop(): void {
    const { pods, pool, server, loop, identities } = this.#context;
    for (const pod of pods.all()) closeListeners(pod);
    this.#cutAll('the agent stops');
    pool.close();
    server.close();
    this.#recheck.close();
    this.#writer?.close();
    identities.close();
    loop.stop();
  }

  /** An exception nobody expected belongs to one connection; the others go on. */
  #onDefect(error: unknown): void {
    this.#defects++;
    log.error({ err: error, worker: this.#start.index }, 'defect in a handler');
  }
}

const DRAINING = { code: 'DRAINED', detail: 'the agent is stopping' } as const;

// The thread's data was put together by worker-handle.ts.
const start: WorkerStart = workerData;
await new DataplaneWorker(start).run();
