// Load that hides nothing: no retries, short time limits, every error counted. For each host of TARGETS, side by side:
//
//   new    a connection of its own for every request            keep   requests on connections that are kept
//   long   one stream on which lines go back and forth; `broken` when it ends, then a new one is opened
//
// Prints a JSON line per 100 ms in which something happened: when it was (ms since the epoch), what succeeded, what
// failed and how, and the longest time between two successes that ended then.
const http = require('node:http');
const net = require('node:net');

const TARGETS = process.env.TARGETS.split(',');
const MARKER = process.env.MARKER ?? 'marker';
const PAUSE_MS = Number(process.env.PAUSE_MS ?? 25);
const TIME_LIMIT_MS = 5000;
const BUCKET_MS = 100;

let bucket;
const lastSuccess = new Map();

function bucketNow() {
  const t = Math.floor(Date.now() / BUCKET_MS) * BUCKET_MS;
  if (bucket?.t !== t) {
    if (bucket !== undefined) console.log(JSON.stringify(bucket));
    bucket = { t, ok: {}, bad: {}, gap: {} };
  }
  return bucket;
}

function succeeded(what) {
  const { ok, gap } = bucketNow();
  ok[what] = (ok[what] ?? 0) + 1;
  const now = performance.now();
  const since = Math.round(now - (lastSuccess.get(what) ?? now));
  lastSuccess.set(what, now);
  gap[what] = Math.max(gap[what] ?? 0, since);
}

function failed(what, error) {
  const { bad } = bucketNow();
  const name = `${what} ${error}`;
  bad[name] = (bad[name] ?? 0) + 1;
}

function request(what, options, done) {
  const call = http.get({ port: 80, path: `/${MARKER}`, timeout: TIME_LIMIT_MS, ...options }, (response) => {
    let body = '';
    response.setEncoding('latin1').on('data', (chunk) => (body += chunk));
    response.on('end', () => (body === `/${MARKER}` ? succeeded(what) : failed(what, `answer ${response.statusCode}`)));
    response.on('error', (error) => failed(what, error.code ?? error.message));
    response.on('close', done);
  });
  // What it waited for: the name, the connection, the answer.
  let phase = 'lookup';
  call.on('socket', (socket) => {
    if (call.reusedSocket) phase = 'answer';
    socket.once('lookup', () => (phase = 'connect'));
    socket.once('connect', () => (phase = 'answer'));
  });
  call.on('timeout', () => call.destroy(Object.assign(new Error(), { code: `TIMEOUT-${phase}` })));
  call.on('error', (error) => {
    // An idle connection may end just when it is used again: every client has to expect that.
    failed(what, `${call.reusedSocket ? 'idle-' : ''}${error.code ?? error.message}`);
    done();
  });
}

function loop(what, options) {
  let again = false;
  request(what, options, () => {
    if (again) return;
    again = true;
    setTimeout(() => loop(what, options), PAUSE_MS);
  });
}

function stream(what, host) {
  const socket = net.connect({ host, port: 9090 });
  const line = `${MARKER} ${'.'.repeat(100)}\n`;
  let waiting = false;
  let sent = 0;
  let limit;
  const send = () => {
    if (socket.destroyed) return;
    waiting = true;
    sent = 0;
    limit = setTimeout(() => socket.destroy(Object.assign(new Error(), { code: 'TIMEOUT' })), TIME_LIMIT_MS);
    socket.write(line);
  };
  const over = (reason) => {
    clearTimeout(limit);
    failed(what, reason);
    setTimeout(() => stream(what, host), 2 * PAUSE_MS);
  };
  let ended = false;
  socket.setNoDelay(true);
  socket.on('connect', send);
  socket.on('data', (chunk) => {
    sent += chunk.length;
    if (!waiting || sent < line.length) return;
    waiting = false;
    clearTimeout(limit);
    succeeded(what);
    setTimeout(send, 2 * PAUSE_MS);
  });
  socket.on('error', (error) => {
    ended = true;
    over(`broken-${error.code ?? error.message}`);
  });
  socket.on('close', () => ended || over('broken-EOF'));
}

for (const host of TARGETS) {
  loop(`new ${host}`, { host, agent: false });
  for (let at = 0; at < 2; at++) {
    loop(`keep ${host}`, { host, agent: new http.Agent({ keepAlive: true, maxSockets: 1 }) });
  }
  stream(`long ${host}`, host);
}
setInterval(bucketNow, BUCKET_MS);
process.on('SIGTERM', () => process.exit());
