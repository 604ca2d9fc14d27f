/** What the control plane listens on, and how it ends. */
import { boolean, duration, listenAddress, optionalListenAddress, optionalPath, row, serverNames } from './setting.ts';

export const SERVING_SETTINGS = {
  listen: row({
    flag: 'listen',
    env: 'AMBIT_LISTEN',
    parse: listenAddress,
    default: '0.0.0.0:15012',
    documentation: 'Where xDS and the CA are served over TLS.',
  }),
  statusListen: row({
    flag: 'status-listen',
    env: 'AMBIT_STATUS_LISTEN',
    parse: listenAddress,
    default: '127.0.0.1:15014',
    documentation:
      'Where readiness and metrics are served without TLS. Views of the state (/debug) are for callers on loopback.',
  }),
  webhookListen: row({
    flag: 'webhook-listen',
    env: 'AMBIT_WEBHOOK_LISTEN',
    parse: optionalListenAddress,
    default: '',
    documentation: 'Where the validating webhook is served over TLS. Empty: not served.',
  }),
  serverNames: row({
    flag: 'server-names',
    env: 'AMBIT_SERVER_NAMES',
    parse: serverNames,
    default: 'localhost,127.0.0.1',
    documentation:
      'Names and addresses in the server certificate, besides the listening address and istiod.<root namespace>.svc.',
  }),
  tokenKey: row({
    flag: 'token-key',
    env: 'AMBIT_TOKEN_KEY',
    parse: optionalPath,
    default: '',
    documentation:
      'P-256 private key (PEM) whose tokens are accepted with the source "files"; made when absent. Empty: token-key.pem in the state folder.',
  }),
  drainMs: row({
    flag: 'drain-time',
    env: 'AMBIT_DRAIN_TIME',
    parse: duration(1),
    default: '1s',
    documentation:
      'After SIGTERM, the time over which clients are sent away one after the other, so that they do not all arrive elsewhere at once.',
    chart: 'drainTime',
  }),
  terminationGraceMs: row({
    flag: 'termination-grace',
    env: 'AMBIT_TERMINATION_GRACE',
    parse: duration(1),
    default: '5s',
    documentation: 'How long calls in progress may take after SIGTERM.',
    chart: 'terminationGrace',
  }),
  leaderElection: row({
    flag: 'leader-election',
    env: 'AMBIT_LEADER_ELECTION',
    parse: boolean,
    default: 'true',
    documentation:
      'Whether this replica may become the one that writes to the cluster (statuses, addresses, roots). Only with the source "kubernetes".',
  }),
} as const;
