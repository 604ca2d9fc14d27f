/** What the elected replica writes to the cluster besides statuses. */
import { ACCOUNT, boolean, commaSeparated, duration, name, row } from './setting.ts';

const TAINT = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?$/;

export const LEADER_SETTINGS = {
  leaseName: row({
    flag: 'lease-name',
    env: 'AMBIT_LEASE_NAME',
    parse: name,
    default: 'ambit-control',
    documentation: 'Lease (in the namespace of the replica) whose holder is the one that writes.',
  }),
  leaseDurationMs: row({
    flag: 'lease-duration',
    env: 'AMBIT_LEASE_DURATION',
    parse: duration(1000),
    default: '6s',
    documentation: 'How long after its last sign of life the writer is taken for dead.',
    chart: 'leaderElection.leaseDuration',
  }),
  agentAccounts: row({
    flag: 'agent-accounts',
    env: 'AMBIT_AGENT_ACCOUNTS',
    parse: commaSeparated(ACCOUNT, 'accounts <namespace>/<service account>, separated by commas'),
    default: 'istio-system/ambit-agent',
    documentation: 'Accounts of agents that guard a node: one of their pods being ready takes the taint off its node.',
  }),
  webhookConfiguration: row({
    flag: 'webhook-configuration',
    env: 'AMBIT_WEBHOOK_CONFIGURATION',
    parse: name,
    default: 'ambit-validation',
    documentation:
      'ValidatingWebhookConfiguration that gets the roots of the CA, so that the API server can verify the webhook.',
  }),
  untaintNodes: row({
    flag: 'untaint-nodes',
    env: 'PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS',
    parse: boolean,
    default: 'true',
    documentation: 'Whether the taint of a node is taken off once the agent on it is ready.',
    chart: 'taint.enabled',
  }),
  nodeTaints: row({
    flag: 'node-taints',
    env: 'PILOT_NODE_UNTAINT_CONTROLLERS_TAINT_NAME',
    parse: commaSeparated(TAINT, 'keys of taints, separated by commas'),
    default: 'cni.istio.io/not-ready,ambit.dev/not-ready',
    documentation: 'Keys of the taints that say that the agent of a node is not ready yet.',
    chart: 'taint.names',
  }),
} as const;
