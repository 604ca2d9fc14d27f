/**
 * Policy routing inside a pod: replies of connections whose client address was preserved carry mark 0x111 and must reach
 * the agent's socket although they are addressed to somebody else. One rule per family leads the mark to table 100, whose
 * only route delivers everything locally. Spoken over rtnetlink; the socket is created inside the pod's namespace.
 *
 * Everything here is list first, then act, so that repeating it adds nothing and removing it twice is no error.
 */
import { readFileSync } from 'node:fs';
// Not the package's index, which loads the tables of every other netlink protocol.
import { FlagsNew } from 'netlink/dist/constants.js';
import { createRtNetlink, type RtNetlinkSocket } from 'netlink/dist/rt/rt.js';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { type IpAddress, ipFromBytes } from '../../core/ip.ts';
import { LOCAL_ROUTE_TABLE, LOCAL_RULE_PREFERENCE, MARK_MASK, SOURCE_PRESERVED_MARK } from '../../core/ports.ts';
import type { NetworkNamespace } from '../../reactor/netns.ts';

const REQUEST_TIMEOUT_MS = 3_000;
/** RTPROT_STATIC (linux/rtnetlink.h): written by an administrator's program, not by the kernel. */
const PROTOCOL_STATIC = 4;
/** Rules that a damaged namespace may hold several times are removed one by one, at most so often. */
const MAX_COPIES = 64;

type FamilyName = 'IPv4' | 'IPv6';
const FAMILY_NUMBERS: Readonly<Record<FamilyName, number>> = { IPv4: 2, IPv6: 10 };

/** The routing side of one pod's namespace. Close it in the same function that opened it. */
export class PodRouting implements Disposable {
  readonly #socket: RtNetlinkSocket;
  /** Those that carry traffic now. */
  readonly #families: readonly FamilyName[];
  /** Those of the kernel: rules outlive that their family is switched off in the namespace. */
  readonly #known: readonly FamilyName[];

  private constructor(socket: RtNetlinkSocket, ipv6: 'on' | 'off' | 'absent') {
    this.#socket = socket;
    this.#families = ipv6 === 'on' ? ['IPv4', 'IPv6'] : ['IPv4'];
    this.#known = ipv6 === 'absent' ? ['IPv4'] : ['IPv4', 'IPv6'];
    // A broken socket shows in the request that waits on it: it runs into its time limit.
    socket.socket.on('error', () => undefined);
  }

  static open(netns: NetworkNamespace): PodRouting {
    try {
      return netns.run(() => new PodRouting(createRtNetlink(), ipv6OfLoopback()));
    } catch (thrown) {
      throw toAmbitError(thrown, 'NETNS');
    }
  }

  /** Every address configured in the namespace, canonical, loopback included, whatever the state of its interface. */
  async listAddresses(): Promise<IpAddress[]> {
    const messages = await this.#ask('list addresses', (options) => this.#socket.getAddresses({}, {}, options));
    return messages.flatMap(({ attrs }) => ipFromBytes(attrs.local ?? attrs.address ?? new Uint8Array()) ?? []);
  }

  /** Adds what is missing; throws `NETNS` when the loopback interface is absent or down. */
  async ensure(): Promise<void> {
    const { index: loopback, up } = await this.#getLoopback();
    if (!up)
      throw new AmbitError('NETNS', 'the loopback interface is down; the container runtime has to bring it up first');
    for (const family of this.#families) {
      if (!(await this.#hasRoute(family, loopback))) await this.#addRoute(family, loopback);
      if ((await this.#countRules(family)) === 0) await this.#addRule(family);
    }
  }

  /** What is missing or doubled, in words; empty when routing is as `ensure` left it. */
  async check(): Promise<string[]> {
    const { index: loopback } = await this.#getLoopback();
    const problems: string[] = [];
    for (const family of this.#families) {
      const rules = await this.#countRules(family);
      if (rules !== 1) problems.push(`the ${family} routing rule for mark 0x111 exists ${rules} times instead of once`);
      if (!(await this.#hasRoute(family, loopback))) {
        problems.push(`the ${family} local route in table ${LOCAL_ROUTE_TABLE} is missing`);
      }
    }
    return problems;
  }

  /** Removes rules first, then the route they lead to. */
  async remove(): Promise<void> {
    const { index: loopback } = await this.#getLoopback();
    for (const family of this.#known) {
      for (let left = Math.min(await this.#countRules(family), MAX_COPIES); left > 0; left--)
        await this.#removeRule(family);
      if (await this.#hasRoute(family, loopback)) await this.#removeRoute(family, loopback);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.socket.socket.close();
  }

  async #getLoopback(): Promise<{ index: number; up: boolean }> {
    const links = await this.#ask('list interfaces', (options) => this.#socket.getLinks({}, {}, options));
    const loopback = links.find(({ data }) => data.flags?.loopback === true);
    if (loopback?.data.index === undefined) throw new AmbitError('NETNS', 'the namespace has no loopback interface');
    return { index: loopback.data.index, up: loopback.data.flags?.up === true };
  }

  async #countRules(family: FamilyName): Promise<number> {
    const rules = await this.#ask('list rules', (options) =>
      this.#socket.getRules({ family: FAMILY_NUMBERS[family] }, {}, options),
    );
    return rules.filter(
      ({ data, attrs }) =>
        data.family === FAMILY_NUMBERS[family] &&
        attrs.priority === LOCAL_RULE_PREFERENCE &&
        attrs.fwmark === SOURCE_PRESERVED_MARK &&
        attrs.fwmask === MARK_MASK &&
        (attrs.table ?? data.table) === LOCAL_ROUTE_TABLE &&
        data.action === 'toTbl',
    ).length;
  }

  async #hasRoute(family: FamilyName, loopback: number): Promise<boolean> {
    const routes = await this.#ask('list routes', (options) =>
      this.#socket.getRoutes({ family: FAMILY_NUMBERS[family] }, {}, options),
    );
    return routes.some(
      ({ data, attrs }) =>
        data.family === FAMILY_NUMBERS[family] &&
        (attrs.table ?? data.table) === LOCAL_ROUTE_TABLE &&
        data.type === 'LOCAL' &&
        data.dstLen === 0 &&
        attrs.oif === loopback,
    );
  }

  async #addRule(family: FamilyName): Promise<void> {
    const flags = FlagsNew.CREATE | FlagsNew.EXCL;
    await this.#ask('add the rule', (options) => this.#socket.newRule(...ruleMessage(family), { ...options, flags }));
  }

  async #removeRule(family: FamilyName): Promise<void> {
    // Without the protocol, so that a copy somebody else wrote goes as well.
    const [data, { protocol: _, ...attrs }] = ruleMessage(family);
    await this.#ask('remove the rule', (options) => this.#socket.delRule(data, attrs, options));
  }

  async #addRoute(family: FamilyName, loopback: number): Promise<void> {
    const flags = FlagsNew.CREATE | FlagsNew.REPLACE;
    const [data, attrs] = routeMessage(family, loopback);
    await this.#ask('add the route', (options) => this.#socket.newRoute(data, attrs, { ...options, flags }));
  }

  async #removeRoute(family: FamilyName, loopback: number): Promise<void> {
    const [data, attrs] = routeMessage(family, loopback);
    await this.#ask('remove the route', (options) => this.#socket.delRoute(data, attrs, options));
  }

  async #ask<T>(what: string, request: (options: { timeout: number }) => Promise<T>): Promise<T> {
    try {
      return await request({ timeout: REQUEST_TIMEOUT_MS });
    } catch (cause) {
      throw new AmbitError('NETNS', `could not ${what}: ${toAmbitError(cause, 'NETNS').message}`, { cause });
    }
  }
}

function ruleMessage(family: FamilyName) {
  return [
    { family: FAMILY_NUMBERS[family], table: LOCAL_ROUTE_TABLE, action: 'toTbl' },
    {
      priority: LOCAL_RULE_PREFERENCE,
      fwmark: SOURCE_PRESERVED_MARK,
      fwmask: MARK_MASK,
      table: LOCAL_ROUTE_TABLE,
      protocol: PROTOCOL_STATIC,
    },
  ] as const;
}

function routeMessage(family: FamilyName, loopback: number) {
  const scope = family === 'IPv4' ? 'HOST' : 'UNIVERSE';
  const data = {
    family: FAMILY_NUMBERS[family],
    table: LOCAL_ROUTE_TABLE,
    type: 'LOCAL',
    scope,
    protocol: 'STATIC',
    dstLen: 0,
  } as const;
  return [data, { oif: loopback, table: LOCAL_ROUTE_TABLE }] as const;
}

/** Asked by the thread that is inside the namespace: `/proc/sys/net` shows the reader's own. */
function ipv6OfLoopback(): 'on' | 'off' | 'absent' {
  try {
    return readFileSync('/proc/sys/net/ipv6/conf/lo/disable_ipv6', 'utf8').trim() === '0' ? 'on' : 'off';
  } catch {
    return 'absent';
  }
}
