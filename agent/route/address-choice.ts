/** Which of a workload's addresses to connect to. */
import { type IpAddress, isIpv6Address } from '../../core/ip.ts';
import type { Service } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';

/** An address the families allow exists: the first, else undefined. */
export function firstUsableAddress(workload: Workload, families: Service['ipFamilies']): IpAddress | undefined {
  const { addresses } = workload;
  for (let i = 0; i < addresses.length; i++) {
    const ip = addresses[i];
    if (ip !== undefined && isAllowed(ip, families)) return ip;
  }
  return undefined;
}

/**
 * The requested address when it is one of the workload's; else the first allowed one of the same family as the
 * request; else the first allowed one.
 */
export function chooseAddress(
  workload: Workload,
  requested: IpAddress,
  families: Service['ipFamilies'],
): IpAddress | undefined {
  const { addresses } = workload;
  if (addresses.includes(requested)) return requested;
  const wantsIpv6 = isIpv6Address(requested);
  for (let i = 0; i < addresses.length; i++) {
    const ip = addresses[i];
    if (ip !== undefined && isIpv6Address(ip) === wantsIpv6 && isAllowed(ip, families)) return ip;
  }
  return firstUsableAddress(workload, families);
}

function isAllowed(ip: IpAddress, families: Service['ipFamilies']): boolean {
  return families === 'ANY' || isIpv6Address(ip) === (families === 'IPV6');
}
