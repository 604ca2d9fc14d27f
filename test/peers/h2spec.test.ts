import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { formatSocketAddress } from '../../core/ip.ts';
import { buildGo, startGoPeer } from '../support/go-programs.ts';
import { CLIENT_MATERIAL, SERVER_MATERIAL } from '../support/hbone-contract.ts';
import { startOurServer } from '../support/hbone-peer-ours.ts';
import { withLoop } from '../support/reactor.ts';

/** Cases that contradict what port 15008 is for, by section and description, each with its reason. */
const EXPECTED_FAILURES: Readonly<Record<string, string>> = {};

let h2spec: string;
let forwarder: string;

before(async () => {
  h2spec = await buildGo('h2spec', 'github.com/summerwind/h2spec/cmd/h2spec');
  forwarder = await buildGo('hbone-peer', './hbone-peer');
});

for (const part of ['generic', 'http2', 'hpack']) {
  test(`the tunnel port passes the ${part} cases of h2spec, client certificate presented`, {
    timeout: 120_000,
  }, async () => {
    await withLoop(async (loop) => {
      const server = startOurServer(loop, SERVER_MATERIAL);
      const plain = await startGoPeer(forwarder, 'forward', CLIENT_MATERIAL, formatSocketAddress(server.address));
      try {
        const cases = await runH2spec(part, plain.address.port);
        assert.ok(cases.length > 5, `only ${cases.length} cases ran`);
        const failed = cases.filter(({ failure }) => failure !== undefined);
        const unexpected = failed.filter(({ id }) => EXPECTED_FAILURES[id] === undefined);
        assert.deepEqual(unexpected, []);
      } finally {
        await plain.stop();
        await server.stop();
      }
    });
  });
}

interface ConformanceCase {
  readonly id: string;
  readonly failure: string | undefined;
}

/** Runs one part and reads its JUnit report; the exit code only repeats what the report says. */
async function runH2spec(part: string, port: number): Promise<ConformanceCase[]> {
  const folder = await mkdtemp(join(tmpdir(), 'ambit-h2spec-'));
  const report = join(folder, 'report.xml');
  try {
    const args = [part, '--host', '127.0.0.1', '--port', String(port), '--timeout', '2', '--junit-report', report];
    await new Promise<void>((resolve) => execFile(h2spec, args, { maxBuffer: 16 << 20 }, () => resolve()));
    return readReport(await readFile(report, 'utf8'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function readReport(xml: string): ConformanceCase[] {
  const cases = xml.matchAll(/<testcase package="([^"]*)" classname="([^"]*)"[^>]*>([\s\S]*?)<\/testcase>/g);
  return [...cases].map(([, section, description, body = '']) => ({
    id: `${section} ${description}`,
    failure: /<(?:failure|error)[^>]*>([\s\S]*?)<\//.exec(body)?.[1],
  }));
}
