/** The rows of authentication and the CA in the table of limits. */
import { REVIEW_LIMITS } from '../authentication/kubernetes-tokens.ts';
import type { ControlLimitRow } from '../limits.ts';
import { ISSUANCE_RATES } from './issuance-rates.ts';
import { NEWS_WAIT } from './news-wait.ts';
import { MAX_REVOCATION_LIST_BYTES } from './revocation-list.ts';

const rate = ({ burst, perSecond }: { readonly burst: number; readonly perSecond: number }, of: string): string =>
  `${burst} ${of}, then ${perSecond}/s`;
const REFUSED = 'RESOURCE_EXHAUSTED';

export const CA_LIMIT_ROWS: readonly ControlLimitRow[] = [
  {
    name: 'ISSUANCE_RATES.identity',
    value: rate(ISSUANCE_RATES.identity, 'certificates'),
    meaning: 'certificates one node asks for under one identity',
    atTheLimit: REFUSED,
  },
  {
    name: 'ISSUANCE_RATES.total',
    value: rate(ISSUANCE_RATES.total, 'certificates'),
    meaning: 'certificates of all callers of one replica together',
    atTheLimit: REFUSED,
  },
  {
    name: 'ISSUANCE_RATES.maxCallers',
    value: `${ISSUANCE_RATES.maxCallers} callers`,
    meaning: 'callers whose pace is remembered; --cert-rate and --cert-rate-burst set the pace',
    atTheLimit: 'the one that has been quiet longest is forgotten',
  },
  {
    name: 'NEWS_WAIT',
    value: `${NEWS_WAIT.maxWaiting} requests, ${NEWS_WAIT.maxWaitingPerKey} of one caller, ${NEWS_WAIT.pausesMs.reduce((sum, ms) => sum + ms, 0)} ms`,
    meaning: 'certificate requests that wait for news of their pod',
    atTheLimit: 'UNAUTHENTICATED without a wait',
  },
  {
    name: 'REVIEW_LIMITS.peer',
    value: rate(REVIEW_LIMITS.peer, 'tokens'),
    meaning: 'tokens of one address that the API server is asked about, where its keys are not known',
    atTheLimit: REFUSED,
  },
  {
    name: 'REVIEW_LIMITS.total',
    value: `${rate(REVIEW_LIMITS.total, 'tokens')}; ${REVIEW_LIMITS.maxUnderWay} at once, ${REVIEW_LIMITS.timeoutMs / 1000}s each`,
    meaning: 'tokens of all callers that the API server is asked about',
    atTheLimit: REFUSED,
  },
  {
    name: 'REVIEW_LIMITS.maxRemembered',
    value: `${REVIEW_LIMITS.maxRemembered} verdicts, for ${REVIEW_LIMITS.acceptedMs / 1000}s, refusals for ${REVIEW_LIMITS.refusedMs / 1000}s`,
    meaning: 'verdicts of the API server that are remembered, never longer than the token lives',
    atTheLimit: 'the one that was used longest ago is forgotten',
  },
  {
    name: 'REVIEW_LIMITS.believedMs',
    value: `${REVIEW_LIMITS.believedMs / 60_000} min`,
    meaning: 'an agent whose token the API server accepted is believed while the API server does not answer',
    atTheLimit: 'refused, and told to try again; a pod of its node that starts waits, connections that stand go on',
  },
  {
    name: 'MAX_REVOCATION_LIST_BYTES',
    value: `${MAX_REVOCATION_LIST_BYTES / (1 << 20)} MiB`,
    meaning: 'one revocation list of a plugged-in CA',
    atTheLimit: 'the CA is refused; what was in use stays',
  },
];
