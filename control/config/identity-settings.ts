/** The certificate authority: whom it trusts, how long its certificates live, how often they may be asked for. */
import { ACCOUNT, commaSeparated, duration, integer, optionalPath, row } from './setting.ts';

export const IDENTITY_SETTINGS = {
  trustedNodeAccounts: row({
    flag: 'trusted-node-accounts',
    env: 'CA_TRUSTED_NODE_ACCOUNTS',
    parse: commaSeparated(ACCOUNT, 'accounts <namespace>/<service account>, separated by commas'),
    default: 'istio-system/ambit-agent,istio-system/ztunnel',
    documentation: 'Accounts of agents: they may ask for the identities of pods on their node.',
  }),
  tokenAudiences: row({
    flag: 'token-audiences',
    env: 'TOKEN_AUDIENCES',
    parse: commaSeparated(/^[!-+\--~]{1,253}$/, 'audiences, separated by commas'),
    default: 'istio-ca',
    documentation: 'Audiences of Kubernetes tokens; a token for any of them is accepted. Source "kubernetes" only.',
  }),
  pluginCaDir: row({
    flag: 'plugin-ca-dir',
    env: 'ROOT_CA_DIR',
    parse: optionalPath,
    default: '/etc/cacerts',
    documentation:
      'Folder where a CA may be mounted (ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem, ca-crl.pem). Absent or without these: the Secret "cacerts", else a root of our own. Source "kubernetes" only.',
  }),
  defaultLifetimeMs: row({
    flag: 'default-cert-ttl',
    env: 'DEFAULT_WORKLOAD_CERT_TTL',
    parse: duration(10_000),
    default: '24h',
    documentation: 'Lifetime of workload certificates whose request names none.',
  }),
  maxLifetimeMs: row({
    flag: 'max-cert-ttl',
    env: 'MAX_WORKLOAD_CERT_TTL',
    parse: duration(10_000),
    default: '90d',
    documentation: 'Longest lifetime a request may name. An old root is trusted this long after it stopped signing.',
  }),
  rootLifetimeMs: row({
    flag: 'root-ttl',
    env: 'CITADEL_SELF_SIGNED_CA_CERT_TTL',
    parse: duration(60_000),
    default: '3650d',
    documentation: 'Lifetime of a root made by this process.',
  }),
  rootDistributionMs: row({
    flag: 'root-distribution-time',
    env: 'AMBIT_ROOT_DISTRIBUTION_TIME',
    parse: duration(1000),
    default: '45d',
    documentation:
      'How long a new root is in every bundle before it signs: at least half of the longest lifetime, because agents learn of it when they renew.',
  }),
  certificateBurst: row({
    flag: 'cert-rate-burst',
    env: 'AMBIT_CERT_RATE_BURST',
    parse: integer(1, 100_000),
    default: '200',
    documentation: 'Certificates one node may ask for at once.',
  }),
  certificatesPerSecond: row({
    flag: 'cert-rate',
    env: 'AMBIT_CERT_RATE',
    parse: integer(1, 100_000),
    default: '20',
    documentation: 'Certificates per second one node may ask for in the long run.',
  }),
} as const;
