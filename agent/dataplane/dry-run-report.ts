/**
 * Tells the operator what policies on trial would have done to a new connection: a log line and a count per finding. The
 * lines go where the access log goes, in its format, and are bounded per second, for a peer causes them; the counts are
 * complete. Nothing here has a say in the connection's fate.
 */
import type { SocketAddress } from '../../core/ip.ts';
import { formatSocketAddress } from '../../core/ip.ts';
import type { RateLimit } from '../../reactor/http2/limits.ts';
import { TokenBucket } from '../../reactor/http2/token-bucket.ts';
import type { ConnectionFacts } from '../route/authorize.ts';
import { type DryRunFinding, judgeDryRuns } from '../route/dry-run.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Workload } from '../state/workload.ts';
import type { RecordFacts } from './connection-record.ts';
import { type LogFormat, LogLine } from './log-line.ts';

/** Lines of one worker. */
export const DRY_RUN_LINES: RateLimit = { burst: 100, perSecond: 100 };
/** Policies one line names. */
const MAX_NAMED = 8;

export interface DryRunCount {
  readonly labels: { readonly action: 'deny' | 'allow'; readonly outcome: 'match' | 'no_match' };
  readonly value: number;
}

export class DryRunReport {
  readonly #state: MeshState;
  readonly #log: { write(line: string): void } | undefined;
  readonly #format: LogFormat;
  readonly #nowMs: () => number;
  readonly #lines: TokenBucket;
  #leftOut = 0;
  #denyMatches = 0;
  #allowMatches = 0;
  #allowMisses = 0;

  /** `log` absent: findings are only counted. */
  constructor(
    state: MeshState,
    log: { write(line: string): void } | undefined,
    format: LogFormat,
    nowMs: () => number,
  ) {
    this.#state = state;
    this.#log = log;
    this.#format = format;
    this.#nowMs = nowMs;
    this.#lines = new TokenBucket(DRY_RUN_LINES, nowMs());
  }

  /** To be called once per connection, when its verdict is taken. `asked` is what the verdict is about. */
  report(local: Workload, asked: ConnectionFacts, facts: Pick<RecordFacts, 'client' | 'source' | 'path'>): void {
    const findings = judgeDryRuns(this.#state, local, asked);
    for (let i = 0; i < findings.length; i++) {
      const finding = findings[i];
      if (finding === undefined) continue;
      this.#count(finding);
      if (this.#log === undefined) continue;
      if (this.#lines.take(this.#nowMs())) {
        this.#log.write(this.#formatLine(finding, local, asked, facts));
        this.#leftOut = 0;
      } else this.#leftOut++;
    }
  }

  /** Findings since the start, by the two labels. */
  counts(): DryRunCount[] {
    return [
      { labels: { action: 'deny', outcome: 'match' }, value: this.#denyMatches },
      { labels: { action: 'allow', outcome: 'match' }, value: this.#allowMatches },
      { labels: { action: 'allow', outcome: 'no_match' }, value: this.#allowMisses },
    ];
  }

  #count({ action, matched }: DryRunFinding): void {
    if (action === 'DENY') this.#denyMatches++;
    else if (matched) this.#allowMatches++;
    else this.#allowMisses++;
  }

  #formatLine(
    finding: DryRunFinding,
    local: Workload,
    asked: ConnectionFacts,
    { client, source, path }: Pick<RecordFacts, 'client' | 'source' | 'path'>,
  ): string {
    const line = new LogLine(this.#format, 'info', 'rbac', messageOf(finding), new Date());
    line.quoted('policy', listed(finding.policies));
    line.word('src.addr', formatSocketAddress(client));
    line.quoted('src.workload', source.workload?.name);
    line.quoted('src.namespace', source.workload?.namespace);
    line.quoted('src.identity', asked.source);
    const destination: SocketAddress = { ip: asked.destinationIp, port: asked.destinationPort };
    line.word('dst.addr', formatSocketAddress(destination));
    line.quoted('dst.workload', local.name);
    line.quoted('dst.namespace', local.namespace);
    line.quoted('path', path);
    if (this.#leftOut > 0) line.number('left_out', this.#leftOut);
    return line.end();
  }
}

/** As Istio words them, so that what looks for them there finds them here. */
function messageOf({ action, matched }: DryRunFinding): string {
  if (action === 'DENY') return 'dry-run: deny policy match';
  return matched ? 'dry-run: allow policy match' : 'dry-run: no allow policies match';
}

function listed(policies: readonly string[]): string {
  const named = policies.slice(0, MAX_NAMED).join(', ');
  return policies.length > MAX_NAMED ? `${named} and ${policies.length - MAX_NAMED} more` : named;
}
