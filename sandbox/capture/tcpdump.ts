/** tcpdump on the link between the nodes, decoded while it runs. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { NODES, WIRE_INTERFACE } from '../layout.ts';
import { PcapDecoder } from './pcap.ts';
import { decodeTcpSegment, type TcpSegment } from './tcp-segment.ts';

/** The command line; run it in the namespace of node a. `-Z root`: some builds drop to a user that may not exist. */
export const TCPDUMP: readonly string[] = [
  ...['nsenter', `--net=/run/netns/${NODES.a.namespace}`, '--'],
  ...['tcpdump', '-i', WIRE_INTERFACE, '-n', '-U', '-s', '0', '-B', '16384', '-Z', 'root', '-w', '-', 'tcp'],
];

export class Capture {
  readonly #child: ChildProcess;
  #dropped = 0;
  #said = '';
  #stopped = false;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /**
   * Takes over a started tcpdump (standard output and error as pipes); resolves when it listens. Rejects with what it
   * said when it cannot.
   */
  static async attach(child: ChildProcess, onSegment: (segment: TcpSegment) => void): Promise<Capture> {
    const capture = new Capture(child);
    const decoder = new PcapDecoder((frame) => {
      const segment = decodeTcpSegment(frame);
      if (segment !== undefined) onSegment(segment);
    });
    child.stdout?.on('data', (chunk: Buffer) => decoder.push(chunk));
    const listening = Promise.withResolvers<void>();
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      capture.#said += text;
      if (capture.#said.includes('listening on')) listening.resolve();
    });
    child.once('error', listening.reject);
    child.once('exit', () => {
      if (!capture.#stopped) listening.reject(new Error(`tcpdump ended: ${capture.#said.trim()}`));
    });
    await listening.promise;
    return capture;
  }

  /** Packets the kernel could not hand over; known after `stop`. */
  get dropped(): number {
    return this.#dropped;
  }

  /** nsenter into a process namespace stays as the parent of what it started and passes no signals on. */
  async #interrupt(): Promise<void> {
    const { pid } = this.#child;
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    const [inner] = children.trim().split(' ').filter(Boolean).map(Number);
    if (inner === undefined) this.#child.kill('SIGINT');
    else process.kill(inner, 'SIGINT');
  }

  /** Ends tcpdump after it has written what it holds. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#child.exitCode !== null) return;
    const closed = once(this.#child, 'close');
    await this.#interrupt();
    await closed;
    this.#dropped = Number(/([0-9]+) packets? dropped by kernel/.exec(this.#said)?.[1] ?? 0);
  }
}
