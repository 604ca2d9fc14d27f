/**
 * What travels between the nodes of the bed, searched for a text while it runs. Nothing is decoded: a text that is in
 * some packet as it was written was not encrypted.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Bed } from './cluster.ts';

const KEPT_MESSAGES = 4096;

export class WireCapture implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #marker: Buffer;
  #rest = Buffer.alloc(0);
  #bytes = 0;
  #sightings = 0;

  private constructor(child: ChildProcess, marker: string) {
    this.#child = child;
    this.#marker = Buffer.from(marker);
    child.stdout?.on('data', (chunk: Buffer) => this.#search(chunk));
  }

  /** Resolves when every packet from now on, of the link of `node`, is looked at. */
  static async start(bed: Bed, node: string, marker: string): Promise<WireCapture> {
    const namespace = join(bed.state, 'ns', 'control');
    const capture = [
      'tcpdump',
      '-i',
      node,
      '-n',
      '-U',
      '--immediate-mode',
      '-s',
      '0',
      '-B',
      '16384',
      '-Z',
      'root',
      '-w',
      '-',
    ];
    const child = spawn('nsenter', [`--net=${namespace}`, '--', ...capture], { stdio: ['ignore', 'pipe', 'pipe'] });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = `${said}${text}`.slice(-KEPT_MESSAGES);
      if (said.includes('listening on')) resolve();
    });
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`tcpdump ended: ${said}`)));
    const running = new WireCapture(child, marker);
    await promise;
    return running;
  }

  /** Bytes so far, and how often the text was among them. */
  get seen(): { readonly bytes: number; readonly sightings: number } {
    return { bytes: this.#bytes, sightings: this.#sightings };
  }

  /** Ends the capture: bytes seen, and how often the text was among them. */
  async finish(): Promise<{ readonly bytes: number; readonly sightings: number }> {
    await this[Symbol.asyncDispose]();
    return this.seen;
  }

  /** Ends the capture after what it holds was looked at. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGINT');
    await closed;
  }

  #search(chunk: Buffer): void {
    this.#bytes += chunk.length;
    const text = Buffer.concat([this.#rest, chunk]);
    let at = text.indexOf(this.#marker);
    let end = 0;
    while (at >= 0) {
      this.#sightings++;
      end = at + this.#marker.length;
      at = text.indexOf(this.#marker, end);
    }
    // A text on the border between two pieces is found with the next one, and none is counted twice.
    this.#rest = text.subarray(Math.max(end, text.length - this.#marker.length + 1));
  }
}

/** Ends the capture: there was something, and the text was nowhere in it. */
export async function assertUnreadable(capture: WireCapture): Promise<void> {
  const { bytes, sightings } = await capture.finish();
  assert.ok(bytes > 0, 'nothing was captured');
  assert.equal(sightings, 0, 'the text travelled in plain text');
}
