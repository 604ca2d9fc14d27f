// Answers every request with who it is and who asked. PORT, default 8080.
const http = require('node:http');
const os = require('node:os');

http
  .createServer((request, response) => {
    const peer = request.socket.remoteAddress?.replace('::ffff:', '');
    response.end(`${JSON.stringify({ pod: os.hostname(), peer, path: request.url, headers: request.headers })}\n`);
  })
  .listen(Number(process.env.PORT ?? 8080));
process.on('SIGTERM', () => process.exit());
