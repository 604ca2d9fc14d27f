/** Probing of idle TCP peers: after 180 s of silence, every 180 s, nine times (the values of Istio's data plane). */
import { SO_KEEPALIVE, SOL_SOCKET, SOL_TCP, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL } from './sys/libc.ts';
import { setOption } from './sys/socket-options.ts';

const IDLE_SECONDS = 180;
const INTERVAL_SECONDS = 180;
const PROBES = 9;

/** On a listening socket it is inherited by every accepted one. */
export function enableKeepAlive(fd: number): void {
  setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1, 'SO_KEEPALIVE');
  setOption(fd, SOL_TCP, TCP_KEEPIDLE, IDLE_SECONDS, 'TCP_KEEPIDLE');
  setOption(fd, SOL_TCP, TCP_KEEPINTVL, INTERVAL_SECONDS, 'TCP_KEEPINTVL');
  setOption(fd, SOL_TCP, TCP_KEEPCNT, PROBES, 'TCP_KEEPCNT');
}
