/**
 * Writes finished log lines to standard output in batches, from a worker thread, without ever blocking its loop for
 * longer than one write. Several workers share the descriptor: a write holds whole lines and at most PIPE_BUF bytes, which
 * the kernel puts into a pipe as one piece (pipe(7)). A reader that does not keep up fills a bounded backlog; lines
 * beyond it are dropped and counted.
 */
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import type { EventLoop, Timer } from '../../reactor/loop.ts';

const PIPE_BUF = 4096;
/** Regular files take larger pieces: appending is one step under the inode's lock. */
const FILE_PIECE = 65_536;
const FLUSH_DELAY_MS = 50;
const FLUSH_AT_CHARACTERS = 32_768;
const MAX_BACKLOG_CHARACTERS = 8 * 1024 * 1024;
const CLOSE_PATIENCE_MS = 500;
const CLOSE_STEP_MS = 10;
const SLEEP = new Int32Array(new SharedArrayBuffer(4));

export class LogWriter {
  readonly #loop: EventLoop;
  readonly #fd: number;
  readonly #owned: boolean;
  readonly #piece: number;
  #lines: string[] = [];
  #characters = 0;
  #rest: Buffer | undefined;
  #timer: Timer | undefined;
  #dropped = 0;

  constructor(loop: EventLoop, fd: number) {
    this.#loop = loop;
    const own = openNonBlocking(fd);
    this.#fd = own ?? fd;
    this.#owned = own !== undefined;
    this.#piece = fstatSync(this.#fd).isFile() ? FILE_PIECE : PIPE_BUF;
  }

  /** Lines lost because nobody read. */
  get droppedLines(): number {
    return this.#dropped;
  }

  /** `line` ends with a line feed. */
  write(line: string): void {
    if (this.#characters + line.length > MAX_BACKLOG_CHARACTERS) {
      this.#dropped++;
      return;
    }
    this.#lines.push(line);
    this.#characters += line.length;
    if (this.#characters >= FLUSH_AT_CHARACTERS && this.#rest === undefined) this.flush();
    else this.#timer ??= this.#loop.setTimer(FLUSH_DELAY_MS, () => this.#onTimer());
  }

  /** Writes what the reader takes now. */
  flush(): void {
    if (this.#rest !== undefined && !this.#writeRest(this.#rest)) return;
    const lines = this.#lines;
    let index = 0;
    while (index < lines.length) {
      let piece = lines[index++] ?? '';
      this.#characters -= piece.length;
      for (
        let next = lines[index];
        next !== undefined && piece.length + next.length <= this.#piece;
        next = lines[++index]
      ) {
        piece += next;
        this.#characters -= next.length;
      }
      if (!this.#writeRest(Buffer.from(piece))) break;
    }
    this.#lines = index === lines.length ? [] : lines.slice(index);
  }

  /** Writes the rest, waiting for the reader no longer than CLOSE_PATIENCE_MS; what is left then is dropped and counted. */
  close(): void {
    this.#timer?.cancel();
    this.flush();
    for (let waitedMs = 0; waitedMs < CLOSE_PATIENCE_MS && this.#hasBacklog; waitedMs += CLOSE_STEP_MS) {
      Atomics.wait(SLEEP, 0, 0, CLOSE_STEP_MS);
      this.flush();
    }
    this.#dropped += this.#lines.length;
    if (this.#owned) closeSync(this.#fd);
  }

  get #hasBacklog(): boolean {
    return this.#rest !== undefined || this.#lines.length > 0;
  }

  #onTimer(): void {
    this.#timer = undefined;
    this.flush();
    if (this.#hasBacklog) {
      this.#timer = this.#loop.setTimer(FLUSH_DELAY_MS, () => this.#onTimer());
    }
  }

  #writeRest(bytes: Buffer): boolean {
    let rest = bytes;
    while (rest.length > 0) {
      try {
        rest = rest.subarray(writeSync(this.#fd, rest));
      } catch (error) {
        if (isWouldBlock(error)) {
          this.#rest = rest;
          return false;
        }
        // Nobody will ever read: the reader closed its end.
        this.#dropped++;
        rest = rest.subarray(rest.length);
      }
    }
    this.#rest = undefined;
    return true;
  }
}

/** A description of its own that does not block; undefined where the system gives none (sockets). */
function openNonBlocking(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
}

function isWouldBlock(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EAGAIN';
}
