// `/` says what the app sees of itself; `/hold` answers on `/release` or SIGUSR2.
'use strict';
const http = require('http');
const cluster = require('cluster');

const held = [];
const release = () => held.splice(0).forEach((one) => one.end('held'));
process.on('SIGUSR2', release);
const server = http.createServer((request, response) => {
  if (request.url === '/hold') return held.push(response);
  if (request.url === '/release') release();
  if (request.url === '/block') for (const end = Date.now() + 300; Date.now() < end;);
  response.end(
    JSON.stringify({
      pid: process.pid,
      id: cluster.worker && cluster.worker.id,
      isPrimary: cluster.isPrimary,
      isWorker: cluster.isWorker,
      send: typeof process.send,
      variables: Object.keys(process.env).filter((name) =>
        /^TENFOLD_(CONTROL|TOKEN|LOAD)_FD$/.test(name),
      ),
    }),
  );
});
if (process.env.MAX_CONNECTIONS) server.maxConnections = Number(process.env.MAX_CONNECTIONS);
server.listen(
  Number(process.env.PORT) || 0,
  '127.0.0.1',
  () => process.send && process.send('ready'),
);
server.on('error', (error) => console.log(`server error ${error.code}`));
