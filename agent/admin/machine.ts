/**
 * What the node page tells of the machine: kernel, programs, descriptors, connection tracking. Everything is read on demand;
 * what cannot be read is undefined, never a guess.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { NetworkNamespace } from '../../reactor/netns.ts';

const NFT_TIMEOUT_MS = 1_000;

/** How much of something bounded is in use. */
export interface Usage {
  readonly used: number;
  readonly limit: number;
}

export interface MachineFacts {
  /** As `uname -r` says. */
  readonly kernel: string;
  /** As nft says of itself. */
  readonly nft: string | undefined;
  /** The kernel speaks IPv6 and the node has not switched it off. */
  readonly ipv6: boolean;
  /** Of the agent's process, all workers together. */
  readonly descriptors: Usage | undefined;
  /** Entries of the node's own namespace; the limit is that of the kernel. */
  readonly conntrack: Usage | undefined;
  /** Resident memory of the agent's process, bytes. */
  readonly memoryBytes: number;
}

/** `hostNetns`: path of the node's own network namespace, where that is visible. Never rejects. */
export async function readMachine(hostNetns: string | undefined): Promise<MachineFacts> {
  const [nft, descriptors] = await Promise.all([nftVersion(), readDescriptors()]);
  return {
    kernel: release(),
    nft,
    descriptors,
    ...readNetwork(hostNetns),
    memoryBytes: process.memoryUsage.rss(),
  };
}

/** Sysctls of the network are those of the namespace the reading thread is in. */
function readNetwork(hostNetns: string | undefined): Pick<MachineFacts, 'ipv6' | 'conntrack'> {
  if (hostNetns === undefined) return readSysctls();
  try {
    const netns = NetworkNamespace.openPath(hostNetns);
    try {
      return netns.run(readSysctls);
    } finally {
      netns.close();
    }
  } catch {
    return { ipv6: false, conntrack: undefined };
  }
}

function readSysctls(): Pick<MachineFacts, 'ipv6' | 'conntrack'> {
  const used = readNumber('/proc/sys/net/netfilter/nf_conntrack_count');
  const limit = readNumber('/proc/sys/net/netfilter/nf_conntrack_max');
  return {
    ipv6: readNumber('/proc/sys/net/ipv6/conf/all/disable_ipv6') === 0,
    conntrack: used === undefined || limit === undefined ? undefined : { used, limit },
  };
}

function readNumber(path: string): number | undefined {
  try {
    const value = Number.parseInt(readFileSync(path, 'utf8'), 10);
    return Number.isNaN(value) ? undefined : value;
  } catch {
    return undefined;
  }
}

async function readDescriptors(): Promise<Usage | undefined> {
  try {
    const [open, limits] = await Promise.all([readdir('/proc/self/fd'), readFile('/proc/self/limits', 'utf8')]);
    const limit = limitOfDescriptors(limits);
    return limit === undefined ? undefined : { used: open.length, limit };
  } catch {
    return undefined;
  }
}

/** The soft limit in the text of /proc/<pid>/limits; undefined when there is none. */
export function limitOfDescriptors(limits: string): number | undefined {
  const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? undefined : Number(soft);
}

/** It does not change while the agent runs. */
let knownNft: Promise<string | undefined> | undefined;

function nftVersion(): Promise<string | undefined> {
  knownNft ??= new Promise((resolve) => {
    execFile('nft', ['--version'], { timeout: NFT_TIMEOUT_MS }, (error, stdout) => {
      resolve(error === null ? /v?\d+(\.\d+)+/.exec(stdout)?.[0] : undefined);
    });
  });
  return knownNft;
}
