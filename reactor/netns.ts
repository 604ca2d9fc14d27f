/**
 * A network namespace by an open descriptor (namespaces(7)). `run` moves the calling thread there for one piece of
 * synchronous work; sockets created inside stay there for good. A thread that could not come back would mix up tenants,
 * so that failure ends the process. Needs CAP_SYS_ADMIN.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { logger } from '../core/log.ts';
import { errno, errnoName } from './sys/errno.ts';
import { CLONE_NEWNET, sys } from './sys/libc.ts';

const OWN_NAMESPACE = '/proc/thread-self/ns/net';

/** Where the calling thread is now: descriptor of the namespace to return to. Opened on first use, kept for the thread's life. */
let homeFd = -1;
let currentFd = -1;

export class NetworkNamespace {
  readonly fd: number;
  /** Inode and device name the namespace: equal pairs are the same one. */
  readonly inode: bigint;
  readonly device: bigint;
  #open = true;

  private constructor(fd: number) {
    this.fd = fd;
    try {
      const status = fstatSync(fd, { bigint: true });
      this.inode = status.ino;
      this.device = status.dev;
    } catch (error) {
      throw new AmbitError('NETNS', `descriptor ${fd} is not open`, { cause: error });
    }
  }

  /** Opens for example `/proc/<pid>/ns/net` or `/var/run/netns/<name>`. Throws NETNS. */
  static openPath(path: string): NetworkNamespace {
    try {
      return new NetworkNamespace(openSync(path, constants.O_RDONLY));
    } catch (error) {
      throw toAmbitError(error, 'NETNS');
    }
  }

  /** Takes over an open descriptor; `close` closes it. Throws NETNS when it is not open. */
  static openFd(fd: number): NetworkNamespace {
    return new NetworkNamespace(fd);
  }

  /** The namespace the calling thread is in now. */
  static current(): NetworkNamespace {
    return NetworkNamespace.openPath(OWN_NAMESPACE);
  }

  /**
   * Runs `work` inside the namespace and returns its result. `work` must be synchronous: a promise is refused with USAGE.
   * Calls may nest. Throws NETNS when the namespace cannot be entered, CLOSED after `close`.
   */
  run<T>(work: () => T): T {
    if (!this.#open) throw new AmbitError('CLOSED', 'network namespace used after it was closed');
    if (homeFd < 0) {
      homeFd = openSync(OWN_NAMESPACE, constants.O_RDONLY);
      currentFd = homeFd;
    }
    const back = currentFd;
    if (sys.setns(this.fd, CLONE_NEWNET) !== 0) {
      const number = errno();
      throw new AmbitError('NETNS', `setns into descriptor ${this.fd}: ${errnoName(number)}`, { errno: number });
    }
    currentFd = this.fd;
    try {
      const result = work();
      if (result instanceof Promise)
        throw new AmbitError('USAGE', 'work inside a network namespace must be synchronous');
      return result;
    } finally {
      if (sys.setns(back, CLONE_NEWNET) !== 0) endProcess(errno());
      currentFd = back;
    }
  }

  /** Closes the descriptor. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }
}

function endProcess(number: number): never {
  logger('reactor').fatal({ errno: number, call: 'setns' }, 'cannot return to the own network namespace');
  process.kill(process.pid, 'SIGKILL');
  for (;;);
}
