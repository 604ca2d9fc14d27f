/**
 * How a process enters a pod: its network namespace, and a mount namespace of its own in which /etc/hosts names the
 * services. Pure: argument lists for nsenter and unshare.
 */
import { WORLD_DIRECTORY } from './layout.ts';

/** Says "no name server here": a name that the hosts file does not know fails at once instead of after seconds. */
export const RESOLVER_FILE = `${WORLD_DIRECTORY}/resolv.conf`;

const ENTER = [
  'mount -n --bind "$1" /etc/hosts',
  `if [ -e /etc/resolv.conf ]; then mount -n --bind ${RESOLVER_FILE} /etc/resolv.conf; fi`,
  'shift',
  'exec "$@"',
].join('\n');

/** The command line that runs `argv` inside the pod, to be started from within the sandbox's namespaces. */
export function podCommand(netns: string, hostsFile: string, argv: readonly string[]): readonly string[] {
  return [
    ...['nsenter', `--net=/run/netns/${netns}`, '--'],
    ...['unshare', '--mount', '--propagation', 'private', '--'],
    ...['sh', '-e', '-c', ENTER, 'enter', hostsFile, ...argv],
  ];
}
