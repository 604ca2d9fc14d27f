/**
 * What the reactor needs from the runtime, the kernel and the process, looked at once at the start, so that a missing piece is
 * named in one clear sentence instead of failing later in the middle of traffic.
 */
import { AmbitError, type ErrorCode } from '../core/errors.ts';
import { getIp } from '../core/ip.ts';
import { EventLoop } from './loop.ts';
import { NetworkNamespace } from './netns.ts';
import { SplicePipe } from './splice-pipe.ts';
import { systemCallError } from './sys/errno.ts';
import { missingSymbols } from './sys/ffi.ts';
import './sys/nghttp2-library.ts';
import {
  AF_INET,
  IP_TRANSPARENT,
  NONBLOCK_CLOEXEC,
  SO_MARK,
  SOCK_STREAM,
  SOL_IP,
  SOL_SOCKET,
  sys,
} from './sys/libc.ts';
import { drainErrors } from './sys/openssl-errors.ts';
import { ssl } from './sys/openssl-library.ts';
import { closeFd, setOption } from './sys/socket-options.ts';
import { listenTcp } from './tcp-listen.ts';

export interface Problem {
  readonly code: ErrorCode;
  /** For the operator: what is missing and what for. */
  readonly text: string;
}

interface Probe {
  readonly code: ErrorCode;
  /** Completes "cannot ...". */
  readonly purpose: string;
  readonly remedy: string;
  run(): void;
}

const PROBES: readonly Probe[] = [
  {
    code: 'SYSTEM_CALL',
    purpose: 'wait for events (epoll, eventfd)',
    remedy: 'Linux 5.10 or newer is needed, and a seccomp profile that allows these calls',
    run() {
      const loop = EventLoop.open();
      loop.openWakeUp(() => {}).close();
      loop.close();
    },
  },
  {
    code: 'SYSTEM_CALL',
    purpose: 'listen on a shared port (SO_REUSEPORT)',
    remedy: 'check net.ipv4 settings and the seccomp profile',
    run() {
      const loop = EventLoop.open();
      try {
        listenTcp(loop, { port: 0, ip: getIp('127.0.0.1'), reusePort: true }, (socket) => socket.close()).close();
      } finally {
        loop.close();
      }
    },
  },
  {
    code: 'SYSTEM_CALL',
    purpose: 'move bytes inside the kernel (splice, pipe2)',
    remedy: 'a seccomp profile must allow these calls',
    run() {
      const pipe = SplicePipe.take();
      if (pipe === undefined) throw systemCallError('pipe2', 'for splice');
      pipe.close();
    },
  },
  {
    code: 'MISSING_CAPABILITY',
    purpose: 'enter network namespaces of pods (setns)',
    remedy: 'grant CAP_SYS_ADMIN',
    run() {
      const own = NetworkNamespace.current();
      try {
        own.run(() => {});
      } finally {
        own.close();
      }
    },
  },
  {
    code: 'MISSING_CAPABILITY',
    purpose: 'mark packets and preserve source addresses (SO_MARK, IP_TRANSPARENT)',
    remedy: 'grant CAP_NET_ADMIN',
    run: probeSocketOptions,
  },
  {
    code: 'MISSING_SYMBOL',
    purpose: 'use TLS 1.3 of the OpenSSL inside Node.js',
    remedy: 'run with the Node.js version that package.json pins',
    run() {
      const context = ssl.SSL_CTX_new(ssl.TLS_method());
      if (context === 0) throw new AmbitError('MISSING_SYMBOL', drainErrors());
      ssl.SSL_CTX_free(context);
    },
  },
];

/** Everything that is missing, empty when the reactor can work. Safe to call at any time; opens and closes a few descriptors. */
export function probeRuntime(): Problem[] {
  const problems: Problem[] = [];
  if (process.platform !== 'linux') {
    return [{ code: 'SYSTEM_CALL', text: `the data plane needs Linux; this is ${process.platform}` }];
  }
  if (missingSymbols.length > 0) {
    const names = missingSymbols.join(', ');
    const text = `this Node.js (${process.version}) does not export ${names}: run with the version that package.json pins`;
    problems.push({ code: 'MISSING_SYMBOL', text });
  }
  for (const probe of PROBES) {
    try {
      probe.run();
    } catch (error) {
      const reason = error instanceof AmbitError ? error.message : String(error);
      problems.push({ code: probe.code, text: `cannot ${probe.purpose}: ${reason}; ${probe.remedy}` });
    }
  }
  return problems;
}

function probeSocketOptions(): void {
  const fd = sys.socket(AF_INET, SOCK_STREAM | NONBLOCK_CLOEXEC, 0);
  if (fd < 0) throw systemCallError('socket', 'of IPv4');
  try {
    setOption(fd, SOL_SOCKET, SO_MARK, 1, 'SO_MARK');
    setOption(fd, SOL_IP, IP_TRANSPARENT, 1, 'IP_TRANSPARENT');
  } finally {
    closeFd(fd);
  }
}
