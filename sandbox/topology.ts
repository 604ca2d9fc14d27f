/**
 * Builds the nodes and their links out of network namespaces. Called once, inside the run's own namespaces; everything
 * vanishes with them, so there is no counterpart that takes it down.
 */
import { requireCommand } from './command.ts';
import { CONTROL_IP, MANAGEMENT_INTERFACE, NODE_NAMES, NODES, WIRE_INTERFACE } from './layout.ts';

/** Two nodes, the wire between them, a management link from each to the control plane, routes between the pod ranges. */
export async function buildTopology(): Promise<void> {
  await requireCommand(['ip', 'link', 'set', 'lo', 'up']);
  await requireCommand(['ip', 'addr', 'add', `${CONTROL_IP}/32`, 'dev', 'lo']);
  for (const name of NODE_NAMES) await buildNode(NODES[name].namespace);
  const { a, b } = NODES;
  await requireCommand([
    ...['ip', 'link', 'add', WIRE_INTERFACE, 'netns', a.namespace, 'type', 'veth'],
    ...['peer', 'name', WIRE_INTERFACE, 'netns', b.namespace],
  ]);
  for (const [node, other] of [
    [a, b],
    [b, a],
  ] as const) {
    await ip(node.namespace, `addr add ${node.wireIp}/30 dev ${WIRE_INTERFACE}`);
    await ip(node.namespace, `link set ${WIRE_INTERFACE} up`);
    await ip(node.namespace, `route add ${other.podRange} via ${other.wireIp}`);
    await buildManagementLink(node.namespace, node.name, node.managementIp);
  }
}

async function buildNode(namespace: string): Promise<void> {
  await requireCommand(['ip', 'netns', 'add', namespace]);
  await ip(namespace, 'link set lo up');
  // A node forwards for its pods; some distributions set a strict reverse path check for new namespaces.
  const write = 'echo 1 >net/ipv4/ip_forward; for each in all default; do echo 0 >net/ipv4/conf/$each/rp_filter; done';
  await requireCommand(['sh', '-e', '-c', `cd /proc/sys; ${write}`], { netns: namespace });
}

async function buildManagementLink(namespace: string, nodeName: string, managementIp: string): Promise<void> {
  const near = `${MANAGEMENT_INTERFACE}-${nodeName}`;
  const veth = ['ip', 'link', 'add', near, 'type', 'veth', 'peer', 'name', MANAGEMENT_INTERFACE, 'netns', namespace];
  await requireCommand(veth);
  await requireCommand(['ip', 'link', 'set', near, 'up']);
  await requireCommand(['ip', 'route', 'add', `${managementIp}/32`, 'dev', near, 'src', CONTROL_IP]);
  await ip(namespace, `addr add ${managementIp}/32 dev ${MANAGEMENT_INTERFACE}`);
  await ip(namespace, `link set ${MANAGEMENT_INTERFACE} up`);
  await ip(namespace, `route add ${CONTROL_IP}/32 dev ${MANAGEMENT_INTERFACE} src ${managementIp}`);
}

function ip(namespace: string, words: string): Promise<string> {
  return requireCommand(['ip', '-n', namespace, ...words.split(' ')]);
}
