/** What an agent says about its node (`/node` of its admin port), decoded: agents may be of another version. */
import {
  boolean,
  type Decoder,
  decode,
  integer,
  list,
  object,
  oneOf,
  optional,
  string,
  withDefault,
} from '../core/decoder.ts';
import { AmbitError } from '../core/errors.ts';

const count = integer(0, Number.MAX_SAFE_INTEGER);
const usage = object({ used: count, limit: count }, 'ignore');

const pod = object(
  {
    namespace: string,
    name: string,
    uid: withDefault(string, ''),
    state: string,
    since: optional(string),
    problem: optional(string),
    selfTest: optional(string),
  },
  'ignore',
);

const identity = object(
  {
    identity: string,
    state: oneOf('available', 'initializing', 'unavailable'),
    reason: optional(string),
    notAfter: optional(string),
    failures: withDefault(count, 0),
    lastFailure: optional(object({ at: withDefault(string, ''), reason: withDefault(string, '') }, 'ignore')),
  },
  'ignore',
);

const chain = object(
  {
    file: optional(string),
    plugins: withDefault(list(string), []),
    files: withDefault(list(string), []),
    ownFile: optional(string),
    programBytes: optional(count),
    problem: optional(string),
  },
  'ignore',
);

const installation = object(
  {
    binaryFolder: withDefault(string, ''),
    configFolder: withDefault(string, ''),
    foundBy: withDefault(string, ''),
    state: string,
    problem: optional(string),
    chain,
  },
  'ignore',
);

const nodeReport = object(
  {
    node: withDefault(string, ''),
    version: string,
    clock: string,
    kernel: withDefault(string, ''),
    nft: optional(string),
    ipv6: withDefault(boolean, false),
    descriptors: optional(usage),
    conntrack: optional(usage),
    memoryBytes: withDefault(count, 0),
    pending: withDefault(list(string), []),
    retired: withDefault(boolean, false),
    problems: withDefault(list(string), []),
    installation: optional(installation),
    probes: optional(string),
    pods: withDefault(list(pod), []),
    identities: withDefault(list(identity), []),
    xds: optional(object({ connected: boolean, since: optional(string), synced: optional(string) }, 'ignore')),
  },
  'ignore',
);

type Decoded<D> = D extends Decoder<infer T> ? T : never;

export type NodeReport = Decoded<typeof nodeReport>;
export type NodePod = Decoded<typeof pod>;
export type NodeIdentity = Decoded<typeof identity>;
export type Usage = Decoded<typeof usage>;

/** Throws ADMIN_UNREACHABLE when the page is something else. */
export function readNodeReport(node: string, page: unknown): NodeReport {
  const decoded = decode(nodeReport, page);
  if (decoded.ok) return decoded.value;
  const [problem] = decoded.problems;
  const what = problem === undefined ? '' : `: ${problem.path.join('.')} ${problem.reason}`;
  throw new AmbitError('ADMIN_UNREACHABLE', `the agent of ${node} gave no report about its node${what}`);
}
