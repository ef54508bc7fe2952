'use strict';
// The numbers of the load page.

const assert = require('node:assert');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const https = require('node:https');
const { test } = require('node:test');
const tls = require('node:tls');
const { app, connect, get, start } = require('./master.js');

const node = process.execPath;
const timeout = 20_000;
const quiet = { open: 0, active: 0 };
const sharedKey = {
  ciphers: 'PSK',
  maxVersion: 'TLSv1.2',
  checkServerIdentity: () => undefined,
  pskCallback: () => ({
    psk: Buffer.from('00112233445566778899aabbccddeeff', 'hex'),
    identity: 'test',
  }),
};

function request(module, options) {
  const sent = module
    .request({ host: '127.0.0.1', agent: false, ...options })
    .on('error', () => {});
  sent.end();
  return sent;
}

test('open connections and active exchanges are counted apart', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  const port = await master.port();
  const idle = await connect(port);
  const held = get(port, '/hold');
  await master.pageHas({ seen: 2, open: 2, active: 1, finished: 0 });
  await get(port, '/release');
  await held;
  await master.pageHas({ seen: 3, open: 1, active: 0, finished: 2 });
  idle.destroy();
  await master.pageHas({ seen: 3, ...quiet });
});

test(
  'an exchange that the client aborts is over, also when answered later',
  { timeout },
  async (t) => {
    const master = start(t, [node, app('http.js')]);
    const port = await master.port();
    const aborted = request(http, { port, path: '/hold' });
    await master.pageHas({ open: 1, active: 1 });
    aborted.destroy();
    await master.pageHas({ ...quiet, finished: 1 });
    await get(port, '/release');
    await master.pageHas({ ...quiet, finished: 2 });
  },
);

test('HTTPS connections are counted until they close', { timeout }, async (t) => {
  const master = start(t, [node, app('secure.js')]);
  const port = await master.port(1);
  const aborted = request(https, { port, path: '/hold', ...sharedKey });
  await master.pageHas({ seen: 1, open: 1, active: 1 });
  aborted.destroy();
  await master.pageHas({ ...quiet, finished: 1 });
  const silent = tls.connect({ port, host: '127.0.0.1', ...sharedKey });
  await once(silent, 'secureConnect');
  await master.pageHas({ seen: 2, open: 1 });
  silent.end();
  await master.pageHas(quiet);
  (await connect(port)).end('no TLS at all');
  await master.pageHas({ seen: 3, ...quiet });
});

test('HTTP/2 streams are active exchanges', { timeout }, async (t) => {
  const master = start(t, [node, app('secure.js')]);
  const session = http2.connect(`http://127.0.0.1:${await master.port(2)}`).on('error', () => {});
  const streams = [session.request({ ':path': '/hold' }), session.request({ ':path': '/hold' })];
  streams.forEach((stream) => stream.on('error', () => {}));
  session.request({ ':path': '/' }).resume();
  await master.pageHas({ seen: 1, open: 1, active: 2, finished: 1 });
  streams[0].close();
  await master.pageHas({ open: 1, active: 1, finished: 2 });
  session.destroy();
  await master.pageHas({ ...quiet, finished: 3 });
});

test('raw, reset and upgraded connections are open until they close', { timeout }, async (t) => {
  const master = start(t, [node, app('secure.js')]);
  const raw = await connect(await master.port(3));
  const upgraded = request(http, {
    port: await master.port(4),
    headers: { Connection: 'Upgrade', Upgrade: 'test' },
  });
  const [, socket] = await once(upgraded, 'upgrade');
  await master.pageHas({ seen: 2, open: 2 });
  raw.resetAndDestroy ? raw.resetAndDestroy() : raw.destroy();
  await master.pageHas({ open: 1 });
  socket.destroy();
  await master.pageHas(quiet);
});

test('room is told once, when a connection closes', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  const port = await master.port();
  const sockets = [await connect(port), await connect(port)];
  await master.pageHas({ open: 2 });
  master.send({ cmd: 'NODE_TENFOLD', act: 'watch', below: 2 });
  // An order behind `watch` on the same channel: when it is answered, `watch` has been read.
  await get(port);
  await master.message({ act: 'room' });
  sockets.forEach((socket) => socket.destroy());
  await master.pageHas(quiet);
  assert.strictEqual(master.messages.filter(({ act }) => act === 'room').length, 1);
});

test('room that was made before the question is told at once', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  const port = await master.port();
  const socket = await connect(port);
  await master.pageHas({ open: 1 });
  master.send({ cmd: 'NODE_TENFOLD', act: 'watch', below: 2 });
  await master.message({ act: 'room' });
  socket.destroy();
});

test('what was taken since the master read hides nothing that has closed', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  const port = await master.port();
  const stays = await connect(port);
  await master.pageHas({ seen: 1, open: 1 });
  (await connect(port)).destroy();
  await master.pageHas({ seen: 2, open: 1 });
  // As if read when one was seen and open: the second has come and gone since.
  master.send({ cmd: 'NODE_TENFOLD', act: 'watch', below: 1, seen: 1 });
  await master.message({ act: 'room' });
  stays.destroy();
});

test(
  'a blocked loop shows in its delay, work in its utilisation, and the beat goes on',
  { timeout },
  async (t) => {
    const master = start(t, [node, app('http.js')]);
    const port = await master.port();
    const before = await master.page();
    assert.ok(before.heap > 1e6 && before.limit > before.heap, `${before.heap} of ${before.limit}`);
    assert.ok(before.delay < 100, `${before.delay}`);
    await get(port, '/block');
    let page = before;
    while (page.delay < 150) page = await master.page();
    assert.ok(
      page.delay < 5000 && page.utilisation > 0.1 && page.utilisation <= 1,
      JSON.stringify(page),
    );
    assert.ok(page.beat > before.beat);
    assert.strictEqual(page.pid, (await master.message({ act: 'attach' })).pid);
  },
);

/** How often the process's main thread has slept until now. */
function sleeps(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)[1]);
}

/** Waits until a worker that does nothing wakes up for its beats alone; returns such a beat. */
async function rests(master) {
  for (let before = await master.page(); ; ) {
    const sleptBefore = sleeps(before.pid);
    const page = await pageAfter(master, before);
    // Eight ticks lie between two beats of a worker that does not rest.
    if (sleeps(page.pid) - sleptBefore < 6) return page;
    before = page;
  }
}

async function pageAfter(master, { beat }) {
  for (;;) {
    const page = await master.page();
    if (page.beat > beat) return page;
  }
}

test('a worker at rest wakes up once per beat', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  await master.port();
  const first = await rests(master);
  const second = await pageAfter(master, first);
  assert.ok(second.beat - first.beat > 500, `${first.beat}, ${second.beat}`);
});

test('what a worker at rest takes is told before its next beat', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  const port = await master.port();
  // On a machine that is busy elsewhere one may be late; without a wake-up each is.
  for (;;) {
    const { beat } = await rests(master);
    const held = get(port, '/hold');
    const told = await master.pageHas({ active: 1 });
    await get(port, '/release');
    await held;
    if (told.beat - beat < 700) return;
  }
});
