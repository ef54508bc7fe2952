'use strict';
// Leaving: nothing accepted is lost, and the process ends by itself.

const assert = require('node:assert');
const { once } = require('node:events');
const http = require('node:http');
const http2 = require('node:http2');
const { test } = require('node:test');
const { app, get, start } = require('./master.js');

const node = process.execPath;
const timeout = 20_000;

function keepAlive(t) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  return agent;
}

test('a draining worker tells kept connections with the next response', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  const port = await master.port();
  const agent = keepAlive(t);
  assert.strictEqual((await get(port, '/', { agent })).headers.connection, 'keep-alive');
  master.drain();
  await master.pageHas({ flags: 1 });
  assert.strictEqual((await get(port, '/', { agent })).headers.connection, 'close');
  await master.pageHas({ seen: 1, open: 0 });
});

test(
  'after disconnect open exchanges are answered, then the process ends',
  { timeout },
  async (t) => {
    const master = start(t, [node, app('http.js')]);
    const port = await master.port();
    const agent = keepAlive(t);
    await get(port, '/', { agent });
    const held = get(port, '/hold');
    await master.pageHas({ open: 2, active: 1 });
    master.drain();
    master.disconnect();
    await master.message({ act: 'close' });
    await master.pageHas({ open: 1, active: 1 });
    process.kill((await master.message({ act: 'attach' })).pid, 'SIGUSR2');
    assert.strictEqual((await held).body, 'held');
    assert.strictEqual((await master.event('exit')).code, 0);
  },
);

test(
  'a connection that falls idle after disconnect does not hold the process',
  { timeout },
  async (t) => {
    const master = start(t, [node, app('http.js')]);
    const port = await master.port();
    const held = get(port, '/hold', { agent: keepAlive(t) });
    await master.pageHas({ active: 1 });
    master.disconnect();
    await master.message({ act: 'close' });
    const before = process.hrtime.bigint();
    process.kill((await master.message({ act: 'attach' })).pid, 'SIGUSR2');
    assert.strictEqual((await held).body, 'held');
    await master.event('exit');
    // Node alone keeps it for keepAliveTimeout, five seconds.
    assert.ok(process.hrtime.bigint() - before < 2_500_000_000n);
  },
);

test('HTTP/2 clients get GOAWAY and finish their streams', { timeout }, async (t) => {
  const master = start(t, [node, app('http2.js')]);
  const session = http2.connect(`http://127.0.0.1:${await master.port()}`);
  const stream = session.request({ ':path': '/' });
  stream.setEncoding('utf8');
  let body = '';
  stream.on('data', (text) => (body += text));
  await once(stream, 'response');
  master.drain();
  await once(session, 'goaway');
  master.disconnect();
  await once(stream, 'end');
  assert.strictEqual(body, 'first last');
  assert.strictEqual((await master.event('exit')).code, 0);
});

test('cluster.worker.disconnect() asks the master and ends', { timeout }, async (t) => {
  const script = `const cluster = require('cluster');
    require('http').createServer().listen(0, '127.0.0.1', () => cluster.worker.disconnect())`;
  const master = start(t, [node, '-e', script]);
  await master.message({ act: 'exitedAfterDisconnect' });
  assert.strictEqual((await master.event('exit')).code, 0);
});

test('server.close() alone ends a process, as without a master', { timeout }, async (t) => {
  const script = `const server = require('http').createServer();
    server.listen(0, '127.0.0.1', () => server.close())`;
  const master = start(t, [node, '-e', script]);
  assert.strictEqual((await master.event('exit')).code, 0);
});

test('a worker that loses its master finishes what is open, then exits', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  const port = await master.port();
  const { pid } = await master.message({ act: 'attach' });
  const held = get(port, '/hold');
  await master.pageHas({ active: 1 });
  master.order('close');
  await master.pageHas({ flags: 1 });
  process.kill(pid, 'SIGUSR2');
  assert.strictEqual((await held).body, 'held');
  assert.strictEqual((await master.event('exit')).code, 0);
});
