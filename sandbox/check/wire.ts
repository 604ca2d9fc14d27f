/** What went over the link between the nodes during the whole check, judged at its end. */

import { spawn } from 'node:child_process';
import { HBONE_PORT } from '../../core/ports.ts';
import { Capture, TCPDUMP } from '../capture/tcpdump.ts';
import { WireInspector } from '../capture/wire-inspector.ts';
import type { Check } from './check.ts';
import { expect } from './context.ts';
import { ENROLLED_WORD, OUTSIDE_WORD } from './traffic.ts';

/** Starts the capture; the returned check stops it and judges. */
export async function startWireCheck(): Promise<{ readonly check: Check; stop(): Promise<void> }> {
  const inspector = new WireInspector([ENROLLED_WORD, OUTSIDE_WORD]);
  const [program = '', ...args] = TCPDUMP;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const capture = await Capture.attach(child, (segment) => inspector.add(segment));
  return { stop: () => capture.stop(), check: { id: 'wire.only-tls', run: (context) => judge(context) } };

  async function judge(context: Parameters<Check['run']>[0]): Promise<string> {
    // What the last connections still had under way.
    await new Promise((resolve) => setTimeout(resolve, 300));
    await capture.stop();
    const report = inspector.report();
    const outside = context.ip('legacy/cron');
    const ofOutside = report.connections.filter((connection) => connection.client.startsWith(`${outside}:`));
    const ofEnrolled = report.connections.filter((connection) => !ofOutside.includes(connection));
    const tunnels = ofEnrolled.filter(
      (connection) => connection.serverPort === HBONE_PORT && connection.verdict === 'tls',
    );
    const wrong = ofEnrolled.filter((connection) => connection.verdict !== 'silent' && !tunnels.includes(connection));
    const shown = wrong.slice(0, 3).map((each) => `${each.client} > ${each.server} ${each.verdict} "${each.sample}"`);
    expect(wrong.length === 0, `enrolled pods sent only TLS to port ${HBONE_PORT}; but ${shown.join('; ')}`);
    expect(tunnels.length > 0, 'tunnels were seen');
    expect(report.notFollowed === 0, `${report.notFollowed} connections could not be followed`);
    expect(capture.dropped === 0, `the capture is whole; ${capture.dropped} packets are missing`);
    const torn = ofEnrolled.find((connection) => connection.gaps);
    expect(
      torn === undefined,
      `every connection was seen from end to end; bytes of ${torn?.client} > ${torn?.server} are missing`,
    );
    const leaked = report.words.filter((word) => word.startsWith(ENROLLED_WORD));
    expect(leaked.length === 0, `no word of an enrolled pod is readable: ${leaked.join('; ')}`);
    const plain = ofOutside.filter((connection) => connection.verdict === 'plaintext');
    expect(
      plain.length > 0 && report.words.some((word) => word.startsWith(OUTSIDE_WORD)),
      'the plaintext of the pod outside is readable',
    );
    const bytes = tunnels.reduce((sum, tunnel) => sum + tunnel.bytes, 0);
    return `${tunnels.length} tunnels with ${bytes} bytes, all TLS on ${HBONE_PORT}; ${plain.length} plaintext connections of legacy/cron`;
  }
}
