/**
 * The one demo application of the sandbox; every pod runs it with other settings (environment):
 *
 *   POD_NAME, VERSION    what it says about itself
 *   UPSTREAM             URL it asks once for each request it serves
 *   CALL, CALLS_PER_SECOND   URL it calls steadily by itself; the results go to standard output once a second
 *
 * HTTP on 8080, raw TCP echo on 9000. It knows nothing of the mesh: no header, no library, no certificate.
 */
import { startCaller } from './caller.ts';
import { startEchoServer } from './echo-server.ts';
import { startHttpServer } from './http-server.ts';

const environment = process.env;
const about = { pod: environment.POD_NAME ?? 'unnamed', version: environment.VERSION ?? 'v1' };

startHttpServer(8080, { ...about, upstream: environment.UPSTREAM });
startEchoServer(9000);
if (environment.CALL !== undefined) {
  const callsPerSecond = Number(environment.CALLS_PER_SECOND ?? '1');
  if (callsPerSecond > 0) startCaller(environment.CALL, callsPerSecond);
}
process.once('SIGTERM', () => process.exit(0));
