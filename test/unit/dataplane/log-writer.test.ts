import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LogWriter } from '../../../agent/dataplane/log-writer.ts';
import { EventLoop } from '../../../reactor/loop.ts';

function temporaryFile(): { path: string; fd: number; remove: () => void } {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-log-'));
  const path = join(directory, 'log');
  const fd = openSync(path, 'a');
  return {
    path,
    fd,
    remove: () => {
      closeSync(fd);
      rmSync(directory, { recursive: true });
    },
  };
}

test('lines reach a file whole and in order, also those written before the flush was due', () => {
  const file = temporaryFile();
  const loop = EventLoop.open();
  const writer = new LogWriter(loop, file.fd);
  const lines = Array.from({ length: 2000 }, (_, index) => `line ${index} ${'x'.repeat(index % 300)}\n`);
  for (const line of lines) writer.write(line);
  writer.close();
  assert.equal(readFileSync(file.path, 'utf8'), lines.join(''));
  assert.equal(writer.droppedLines, 0);
  loop.close();
  file.remove();
});

test('a line is written when its time has come, without another line', async () => {
  const file = temporaryFile();
  const loop = EventLoop.open();
  const writer = new LogWriter(loop, file.fd);
  writer.write('only\n');
  loop.setTimer(200, () => loop.stop());
  await loop.run();
  assert.equal(readFileSync(file.path, 'utf8'), 'only\n');
  writer.close();
  loop.close();
  file.remove();
});

test('a reader that does not read costs lines, which are counted, and never blocks the writer', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-log-'));
  const path = join(directory, 'pipe');
  // The only reader of the pipe is this process, which does not read.
  const child = spawn('mkfifo', [path]);
  return new Promise<void>((resolve) => {
    child.once('exit', () => {
      const fd = openSync(path, 'r+');
      const loop = EventLoop.open();
      const writer = new LogWriter(loop, fd);
      const line = `${'x'.repeat(999)}\n`;
      const started = performance.now();
      for (let i = 0; i < 20_000; i++) writer.write(line);
      assert.ok(writer.droppedLines > 10_000, `${writer.droppedLines}`);
      writer.close();
      assert.ok(performance.now() - started < 2000);
      assert.ok(writer.droppedLines >= 20_000 - 66, `${writer.droppedLines}`);
      loop.close();
      closeSync(fd);
      rmSync(directory, { recursive: true });
      resolve();
    });
  });
});
