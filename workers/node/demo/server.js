'use strict';
// A plain HTTP app that says which worker answered; it knows nothing of tenfold.

const http = require('node:http');

const port = Number(process.env.PORT) || 3000;
const slot = process.env.TENFOLD_SLOT;
const colours = [
  '#2563eb',
  '#16a34a',
  '#d97706',
  '#dc2626',
  '#7c3aed',
  '#0891b2',
  '#be185d',
  '#4d7c0f',
];
let served = 0;

const routes = {
  '/': (url, request, response) => {
    if (!String(request.headers.accept).includes('text/html'))
      return text(response, `${whoAmI()}\n`);
    response.setHeader('Content-Type', 'text/html; charset=utf-8');
    response.end(page());
  },
  '/slow': (url, request, response) => {
    const ms = Math.min(Number(url.searchParams.get('ms')) || 1000, 60_000);
    const timer = setTimeout(() => text(response, `${whoAmI()} after ${ms} ms\n`), ms);
    response.once('close', () => clearTimeout(timer));
  },
  '/stream': (url, request, response) => {
    response.setHeader('Content-Type', 'text/event-stream');
    let count = 0;
    const tick = () => response.write(`data: ${++count} from ${whoAmI()}\n\n`);
    const timer = setInterval(tick, 1000);
    response.once('close', () => clearInterval(timer));
    tick();
  },
  '/healthz': (url, request, response) => text(response, 'ok\n'),
};

const server = http.createServer((request, response) => {
  served += 1;
  const url = new URL(request.url, 'http://demo');
  const route = routes[url.pathname];
  if (route) return route(url, request, response);
  response.statusCode = 404;
  text(response, 'not found\n');
});

server.listen(port, () =>
  console.log(`demo: listening on http://localhost:${server.address().port}`),
);

function whoAmI() {
  return `worker ${slot ?? '-'} (pid ${process.pid})`;
}

function text(response, body) {
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(body);
}

function page() {
  const seconds = Math.round(process.uptime());
  const colour = colours[(Number(slot) || 0) % colours.length];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${slot === undefined ? 'one process' : `worker ${slot}`}</title>
<style>
  body { margin: 0; min-height: 100vh; display: grid; place-content: center; text-align: center;
         font: 16px/1.6 system-ui, sans-serif; color: #fff; background: ${colour} }
  h1 { margin: 0; font-size: 22vmin; line-height: 1; font-variant-numeric: tabular-nums }
  a { color: inherit }
</style>
<h1>${slot ?? '1'}</h1>
<p>pid ${process.pid} on Node ${process.versions.node}, ${served} served, up ${seconds} s</p>
<p>Reload for another worker · <a href="/slow?ms=2000">slow</a> · <a href="/stream">stream</a></p>
</html>
`;
}
