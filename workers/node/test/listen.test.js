'use strict';
// What reaches the master for each way of listening, and what is left to the app.

const assert = require('node:assert');
const dgram = require('node:dgram');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { app, connect, get, start } = require('./master.js');

const node = process.execPath;
const [major, minor] = process.versions.node.split('.').map(Number);
const timeout = 20_000;

function listening(t, options, env) {
  return start(t, [node, app('listen.js'), JSON.stringify(options)], env);
}

function temporaryDirectory(t) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tenfold-'));
  t.after(() => fs.rmSync(directory, { recursive: true }));
  return directory;
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

test('each server is announced with its kind right before its question', { timeout }, async (t) => {
  const master = start(t, [node, app('kinds.js')]);
  const kinds = ['http', 'http', 'https', 'http2', 'http2', 'net', 'tls'];
  await master.message({ act: 'listening' }, kinds.length);
  const said = master.messages.filter(({ act }) => act === 'server' || act === 'queryServer');
  assert.deepStrictEqual(
    said.map(({ kind, act }) => kind || act),
    kinds.flatMap((kind) => [kind, 'queryServer']),
  );
  assert.strictEqual(said[0].address, '127.0.0.1');
  assert.strictEqual(said[0].port, 0);
  assert.strictEqual(said[0].addressType, 4);
});

test('server.address() is what the master bound', { timeout }, async (t) => {
  const master = listening(t, { port: 0, host: '127.0.0.1' });
  const port = await master.port();
  await master.prints(`address {"address":"127.0.0.1","family":"IPv4","port":${port}}`);
});

test('a port in use reaches the app as its usual error', { timeout }, async (t) => {
  const taken = net.createServer().listen(0, '127.0.0.1');
  t.after(() => taken.close());
  await once(taken, 'listening');
  const master = listening(t, { port: taken.address().port, host: '127.0.0.1' });
  await master.prints('server error EADDRINUSE');
});

test(
  'a second server on the same port of one process asks with another index',
  { timeout },
  async (t) => {
    const port = await freePort();
    const twice = `for (const name of ['a', 'b']) require('http').createServer()
      .listen(${port}, '127.0.0.1')
    .on('error', (error) => console.log(error.code))`;
    const master = start(t, [node, '-e', twice]);
    await master.prints('EADDRINUSE');
    const asked = master.messages.filter(({ act }) => act === 'queryServer');
    assert.deepStrictEqual(
      asked.map(({ index }) => index),
      [0, 1],
    );
  },
);

test('a closed server is given back and may listen again', { timeout }, async (t) => {
  const again = `const answer = (_, response) => response.end('again');
    const server = require('http').createServer(answer);
    server.listen(0, '127.0.0.1', () => server.close(() => server.listen(0, '127.0.0.1')))`;
  const master = start(t, [node, '-e', again]);
  const [first, second] = [await master.port(1), await master.port(2)];
  assert.strictEqual((await get(second)).body, 'again');
  const { key } = await master.message({ act: 'close' });
  assert.ok(key.startsWith('127.0.0.1:0:4:0'), `${first}`);
});

for (const options of [
  { port: 0, exclusive: true },
  { port: 0, reusePort: true },
]) {
  const [why] = Object.keys(options).slice(1);
  const unknown = why === 'reusePort' && !(major > 22 || (major === 22 && minor >= 12));
  test(
    `${why} is reported and proceeds`,
    { timeout, skip: unknown && 'unknown to this Node' },
    async (t) => {
      const master = listening(t, options);
      assert.strictEqual((await master.message({ act: 'bypass' })).why, why);
      await master.prints('address {');
      assert.ok(!master.messages.some(({ act }) => act === 'queryServer'));
    },
  );
}

test('a listen in a worker thread is reported and proceeds', { timeout }, async (t) => {
  const master = start(t, [node, app('thread.js')]);
  const { why, address } = await master.message({ act: 'bypass' });
  assert.deepStrictEqual([why, address], ['worker_thread', '127.0.0.1']);
  await master.prints('thread listens');
});

test("the Unix path of the main process is the master's", { timeout }, async (t) => {
  const socketPath = path.join(temporaryDirectory(t), 'app.sock');
  const master = listening(t, { path: socketPath });
  assert.strictEqual((await master.message({ act: 'server' })).port, -1);
  await master.prints(`address ${JSON.stringify(socketPath)}`);
  assert.strictEqual((await get(undefined, '/', { socketPath, host: undefined })).body, 'ok');
});

test('the Unix path of another process is its own, unless named', { timeout }, async (t) => {
  const directory = temporaryDirectory(t);
  const socketPath = path.join(directory, 'tool.sock');
  const command = [
    node,
    app('launch.js'),
    'spawn',
    app('listen.js'),
    JSON.stringify({ path: socketPath }),
  ];
  const left = start(t, command);
  await left.prints('address');
  assert.deepStrictEqual(left.messages, []);
  fs.unlinkSync(socketPath);
  const named = start(t, command, { TENFOLD_UNIX: `/nowhere:${directory}/./tool.sock` });
  assert.strictEqual((await named.message({ act: 'listening' })).address, socketPath);
});

test(
  "a fixed UDP port comes from the master, one of the kernel's choice does not",
  { timeout },
  async (t) => {
    const port = await freePort();
    const master = start(t, [node, app('datagram.js'), String(port)]);
    await master.prints('fixed port bound');
    const asked = master.messages.filter(({ act }) => act === 'queryServer');
    assert.deepStrictEqual(
      asked.map(({ port: p, addressType }) => [p, addressType]),
      [[port, 'udp4']],
    );
    await master.message({ cmd: 'NODE_HANDLE_ACK' });
    const client = dgram.createSocket('udp4');
    client.send('ping', port, '127.0.0.1');
    const [answer] = await once(client, 'message');
    client.close();
    assert.strictEqual(String(answer), 'ping');
  },
);

test('connections over maxConnections are refused, not dropped', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')], { MAX_CONNECTIONS: '2' });
  const port = await master.port();
  const [first] = [await connect(port), await connect(port), await connect(port)];
  await master.message({ accepted: false });
  assert.strictEqual(master.messages.filter(({ accepted }) => accepted).length, 2);
  await master.pageHas({ seen: 3, open: 2 });
  first.destroy();
  await master.pageHas({ open: 1 });
  await connect(port);
  await master.message({ accepted: true }, 3);
});

test('a connection for a server that is gone is refused', { timeout }, async (t) => {
  const close = `const server = require('http').createServer().listen(0, '127.0.0.1', () => {
    process.stdin; setInterval(() => {}, 1000); process.once('message', () => server.close()) })`;
  const master = start(t, [node, '-e', close]);
  const port = await master.port();
  master.order('hold');
  await connect(port);
  await master.event('held');
  master.send('close now');
  await master.message({ act: 'close' });
  master.order('release');
  await master.message({ accepted: false });
  // The answer said that the descriptor came.
  assert.ok(!master.messages.some(({ cmd }) => cmd === 'NODE_HANDLE_ACK'));
});

test('keep-alive stays on one handed connection', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  const port = await master.port();
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  for (let i = 0; i < 3; i++) await get(port, '/', { agent });
  await master.pageHas({ seen: 1, finished: 3 });
});
