/**
 * The result of the plugins before us: what addresses it gives the pod, and the same result in the form of the version
 * the network configuration asks for. Values are passed through; only what a version does not know is left out.
 *
 * Differences (specification changelog): 0.x has `version` in each entry of `ips`, 1.0.0 dropped it; 1.1.0 added `mtu`,
 * `socketPath`, `pciID` to interfaces and `mtu`, `advmss`, `priority`, `table`, `scope` to routes.
 */
import { type IpAddress, isIpv6Address, parseIp } from '../core/ip.ts';
import { CNI_ERROR, CniError } from './cni-error.ts';
import { type CniVersion, isAtLeast } from './cni-version.ts';

type Fields = Readonly<Record<string, unknown>>;

const NEW_IN_1_1_INTERFACE = ['mtu', 'socketPath', 'pciID'];
const NEW_IN_1_1_ROUTE = ['mtu', 'advmss', 'priority', 'table', 'scope'];

/** The result to print; without a previous one, an empty result. Throws CniError 6 for a list that is none. */
export function convertResult(previous: Fields | undefined, cniVersion: CniVersion): Fields {
  if (previous === undefined) return { cniVersion };
  const result: Record<string, unknown> = { ...previous, cniVersion };
  const dropNew = !isAtLeast(cniVersion, '1.1.0');
  const interfaces = listOf(previous, 'interfaces');
  if (interfaces !== undefined) {
    result.interfaces = interfaces.map((entry) => (dropNew ? without(entry, NEW_IN_1_1_INTERFACE) : entry));
  }
  const routes = listOf(previous, 'routes');
  if (routes !== undefined) result.routes = routes.map((entry) => (dropNew ? without(entry, NEW_IN_1_1_ROUTE) : entry));
  const ips = listOf(previous, 'ips');
  if (ips !== undefined) {
    result.ips = ips.map((entry) => {
      const bare = without(entry, ['version']);
      if (isAtLeast(cniVersion, '1.0.0')) return bare;
      const ip = addressOf(entry);
      return ip === undefined ? entry : { version: isIpv6Address(ip) ? '6' : '4', ...bare };
    });
  }
  return result;
}

/** Every address of the result, canonical, in its order. */
export function addressesOf(result: Fields | undefined): readonly IpAddress[] {
  return (result === undefined ? undefined : listOf(result, 'ips'))?.flatMap((entry) => addressOf(entry) ?? []) ?? [];
}

function addressOf(entry: Fields): IpAddress | undefined {
  return typeof entry.address === 'string' ? parseIp(entry.address.split('/')[0] ?? '') : undefined;
}

function listOf(result: Fields, key: string): readonly Fields[] | undefined {
  const value = result[key];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) throw new CniError(CNI_ERROR.undecodable, `prevResult.${key} must be a list`);
  return value.map((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) {
      throw new CniError(CNI_ERROR.undecodable, `prevResult.${key} must be a list of objects`);
    }
    return { ...entry };
  });
}

function without(entry: Fields, keys: readonly string[]): Fields {
  return Object.fromEntries(Object.entries(entry).filter(([key]) => !keys.includes(key)));
}
