/** `ambit sandbox capture`: what an eavesdropper on the link between the two nodes sees. */
import { Command } from 'commander';
import type { TcpSegment } from '../sandbox/capture/tcp-segment.ts';
import { Capture, TCPDUMP } from '../sandbox/capture/tcpdump.ts';
import { TlsRecordChecker } from '../sandbox/capture/tls-records.ts';
import { printable } from '../sandbox/capture/wire-inspector.ts';
import { awaitExit, enterWorld } from './enter-world.ts';
import { type OutputFormat, outputOption, renderTable } from './output.ts';
import { fetchStatus, getSandbox } from './running-sandbox.ts';

/** More lines than this in a second help nobody; the rest is counted. */
const LINES_PER_SECOND = 12;
const PRINTABLE_SHARE = 0.9;

interface CaptureOptions {
  readonly output: OutputFormat;
  readonly seconds?: string;
}

interface SeenPacket {
  readonly source: string;
  readonly destination: string;
  readonly bytes: number;
  readonly kind: 'TLS' | 'plaintext';
  /** Readable beginning of a plaintext packet. */
  readonly text: string;
}

export function sandboxCaptureCommand(): Command {
  return new Command('capture')
    .description('Show what an eavesdropper on the link between the two nodes sees (Ctrl-C ends it)')
    .option('--seconds <n>', 'end by itself after this time')
    .addOption(outputOption())
    .action(runCapture);
}

async function runCapture(options: CaptureOptions): Promise<void> {
  const run = await getSandbox();
  const names = new Map((await fetchStatus(run)).pods.map((pod) => [pod.ip, pod.pod]));
  const show = new LineBudget((line) => process.stdout.write(`${line}\n`));
  const totals = new Map<string, { packets: number; bytes: number }>();
  const child = enterWorld(run, TCPDUMP, ['ignore', 'pipe', 'pipe']);
  const capture = await Capture.attach(child, (segment) => {
    if (segment.payload.length === 0) return;
    const packet = describePacket(segment);
    const key = `${withoutPort(packet.source, names)} > ${withoutPort(packet.destination, names)} ${packet.kind}`;
    const total = totals.get(key) ?? { packets: 0, bytes: 0 };
    totals.set(key, { packets: total.packets + 1, bytes: total.bytes + packet.bytes });
    if (options.output === 'json') process.stdout.write(`${JSON.stringify(packet)}\n`);
    else show.print(formatPacket(packet), packet.kind === 'plaintext');
  });
  if (options.output === 'text')
    process.stderr.write('listening on the link between node a and node b; Ctrl-C ends it\n');
  const end = (): void => void capture.stop();
  process.once('SIGINT', end).once('SIGTERM', end);
  const timer = options.seconds === undefined ? undefined : setTimeout(end, Number(options.seconds) * 1000);
  await awaitExit(child);
  clearTimeout(timer);
  if (options.output === 'json') return;
  const rows = [...totals].map(([key, { packets, bytes }]) => [key, packets, bytes] as const);
  process.stdout.write(`\n${renderTable(['DIRECTION', 'PACKETS', 'BYTES'], rows)}\n`);
}

/** A packet alone says little; readable text betrays itself, and everything else on this link is part of TLS records. */
export function describePacket(segment: TcpSegment): SeenPacket {
  const checker = new TlsRecordChecker();
  checker.push(segment.payload);
  const readable = segment.payload.filter((byte) => (byte >= 32 && byte < 127) || byte === 10 || byte === 13).length;
  const isText = readable / segment.payload.length >= PRINTABLE_SHARE;
  const kind = !checker.isTls && isText ? 'plaintext' : 'TLS';
  const { source, destination, payload } = segment;
  return { source, destination, bytes: payload.length, kind, text: kind === 'plaintext' ? printable(payload) : '' };
}

function formatPacket(packet: SeenPacket): string {
  const ends = `${packet.source.padEnd(21)} > ${packet.destination.padEnd(21)}`;
  const text = packet.kind === 'plaintext' ? `PLAINTEXT  ${packet.text}` : 'TLS        (encrypted)';
  return `${ends} ${String(packet.bytes).padStart(6)} B  ${text}`;
}

function withoutPort(address: string, names: ReadonlyMap<string, string>): string {
  const ip = address.slice(0, address.lastIndexOf(':'));
  return names.get(ip) ?? ip;
}

/** Prints at most so many lines a second and says how many it left out. */
class LineBudget {
  readonly #write: (line: string) => void;
  #second = 0;
  #printed = 0;
  #leftOut = 0;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** `always`: the line is printed and not counted. */
  print(line: string, always: boolean): void {
    if (always) {
      this.#write(line);
      return;
    }
    const second = Math.floor(Date.now() / 1000);
    if (second !== this.#second) {
      if (this.#leftOut > 0) this.#write(`... and ${this.#leftOut} packets more`);
      this.#second = second;
      this.#printed = 0;
      this.#leftOut = 0;
    }
    if (this.#printed < LINES_PER_SECOND) {
      this.#printed++;
      this.#write(line);
    } else this.#leftOut++;
  }
}
