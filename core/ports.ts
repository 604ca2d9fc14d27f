/** Well-known ports, marks and addresses shared with Istio's data plane. Not configurable: peers rely on them. */
export const OUTBOUND_PORT = 15001;
export const INBOUND_PLAINTEXT_PORT = 15006;
export const HBONE_PORT = 15008;
export const ADMIN_PORT = 15000;
export const METRICS_PORT = 15020;
export const READINESS_PORT = 15021;
/** Readiness, metrics and views of the control plane. */
export const CONTROL_STATUS_PORT = 15014;

/** SO_MARK of every packet the agent sends from a pod's namespace; the rules let it pass. */
export const PROXY_MARK = 0x539;
/** Connection mark of flows whose source the agent preserves; their replies are routed back to the agent. */
export const SOURCE_PRESERVED_MARK = 0x111;
export const MARK_MASK = 0xfff;
/** Routing table that delivers marked replies locally, and the preference of the rule that leads to it. */
export const LOCAL_ROUTE_TABLE = 100;
export const LOCAL_RULE_PREFERENCE = 32764;

/** Where enrolment connects to from inside a pod to see that it is redirected: addresses of documentation, no host has them. */
export const SELF_TEST_V4 = '192.0.2.127';
export const SELF_TEST_V6 = '2001:db8:7127::1';
export const SELF_TEST_PORT = 1;

export function isSelfTest({ ip, port }: { readonly ip: string; readonly port: number }): boolean {
  return port === SELF_TEST_PORT && (ip === SELF_TEST_V4 || ip === SELF_TEST_V6);
}

/** Ports nobody may reach through a tunnel: the agent's own listeners in a pod. */
export const PROXY_PORTS: ReadonlySet<number> = new Set([OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, HBONE_PORT]);
