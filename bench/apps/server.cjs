'use strict';
// The app that every peer runs, a plain Node server that knows nothing of any of them.
//
//   /                                   hello
//   /work?wait_us=&cpu_us=&bytes=       a timer, a busy loop, a body; with serial=1 one at a time,
//                                       as a CPU-bound page would be, on a machine with too few CPUs
//   /shop                               1 MB, made anew for each request, after 100 ms
//   /page                               a page rendered by React, if it is installed
//   /healthz                            ok
//
// Listens at PORT, a number or a path. Every answer says who gave it and how long that one took.
const http = require('node:http');

const pid = String(process.pid);
const hello = Buffer.from('hello\n');
// What waits for its turn with serial=1, while one is in service.
const turns = [];
let serving = false;

function answer(response, body, since) {
  const service = since === undefined ? 0n : (process.hrtime.bigint() - since) / 1000n;
  response.writeHead(200, {
    'content-type': 'text/plain',
    'content-length': body.length,
    'x-worker': pid,
    'x-service-us': String(service),
  });
  response.end(body);
}

function spin(us) {
  const end = process.hrtime.bigint() + BigInt(us) * 1000n;
  while (process.hrtime.bigint() < end);
}

function work(query, response, done) {
  const since = process.hrtime.bigint();
  const finish = () => {
    spin(Number(query.get('cpu_us') ?? 0));
    answer(response, Buffer.alloc(Number(query.get('bytes') ?? 6), 46), since);
    done?.();
  };
  const wait = Number(query.get('wait_us') ?? 0);
  if (wait > 0) setTimeout(finish, wait / 1000);
  else finish();
}

function nextTurn() {
  const turn = turns.shift();
  serving = turn !== undefined;
  if (turn) work(turn.query, turn.response, nextTurn);
}

// The page of the incident that the scenario is taken from: made when the request comes, as one is
// from a cache, and held while the request waits for something else.
function shop() {
  return Buffer.from('a'.repeat(1_000_000));
}

let render;
function page() {
  if (!render) {
    const { createElement: h } = require('react');
    const { renderToString } = require('react-dom/server');
    const row = (i) => h('li', { key: i, className: 'item' }, h('a', { href: `/p/${i}` }, `Item ${i}`));
    render = () => renderToString(h('ul', null, Array.from({ length: 400 }, (_, i) => row(i))));
  }
  return Buffer.from(render());
}

const server = http.createServer((request, response) => {
  const at = request.url.indexOf('?');
  const path = at < 0 ? request.url : request.url.slice(0, at);
  const query = new URLSearchParams(at < 0 ? '' : request.url.slice(at));
  if (path === '/work' && query.get('serial')) {
    turns.push({ query, response });
    if (!serving) nextTurn();
  } else if (path === '/work') {
    work(query, response);
  } else if (path === '/shop') {
    const body = shop();
    setTimeout(() => answer(response, body), 100);
  } else if (path === '/page') {
    const since = process.hrtime.bigint();
    answer(response, page(), since);
  } else {
    answer(response, hello);
  }
});
// A proxy in front keeps its connections longer than Node's default of 5 s would.
server.keepAliveTimeout = 75_000;
const port = process.env.PORT ?? '3000';
server.listen(/^\d+$/.test(port) ? { port: Number(port), host: '127.0.0.1' } : { path: port });
