// Answers HTTP on 8080 with the path it was asked for, and echoes what comes on 9090. Stays for STAY_MS after SIGTERM.
const http = require('node:http');
const net = require('node:net');

http.createServer((request, response) => response.end(request.url)).listen(8080);
net
  .createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => socket.destroy()).pipe(socket))
  .listen(9090);
process.on('SIGTERM', () => setTimeout(() => process.exit(), Number(process.env.STAY_MS ?? 0)));
