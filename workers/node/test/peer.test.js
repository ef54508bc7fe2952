'use strict';
// Whom a request is from, on connections that the master shares among clients.

const assert = require('node:assert');
const { test } = require('node:test');
const { app, connect, start } = require('./master.js');

const node = process.execPath;
const timeout = 20_000;
const peer = (text) => `X-Tenfold-Peer: ${text}\r\n`;

/** Sends a request whose last fields are these; resolves with what the app saw. */
function ask(socket, fields) {
  return new Promise((resolve, reject) => {
    let text = '';
    const read = (data) => {
      text += data;
      const object = text.match(/\r\n\r\n(?:[0-9a-f]+\r\n)?(\{.*\})/);
      if (!object) return;
      socket.off('data', read);
      resolve(JSON.parse(object[1]));
    };
    socket.on('data', read).once('close', () => reject(new Error(`closed after ${text}`)));
    socket.write(`GET / HTTP/1.1\r\nHost: a\r\nX-Last: b\r\n${fields}\r\n`);
  });
}

test('each request on a private connection has the peer that it names', { timeout }, async (t) => {
  const master = start(t, [node, app('peer.js')], { PRIVATE: '1' });
  const socket = await connect(await master.port());
  const plain = { names: ['host', 'x-last'], rawHeaders: ['Host', 'a', 'X-Last', 'b'] };
  for (const [fields, remote] of [
    [peer('192.0.2.1 51034'), ['192.0.2.1', 51034, 'IPv4']],
    [peer('::ffff:192.0.2.2 7'), ['::ffff:192.0.2.2', 7, 'IPv6']],
    ['', [null, null, null]],
    [peer('2001:db8::1 65535'), ['2001:db8::1', 65535, 'IPv6']],
  ]) {
    assert.deepStrictEqual(await ask(socket, fields), { ...plain, remote });
  }
});

test('an upgrade has its peer too', { timeout }, async (t) => {
  const master = start(t, [node, app('peer.js')], { PRIVATE: '1' });
  const socket = await connect(await master.port());
  const fields = `Connection: upgrade\r\nUpgrade: x\r\n${peer('192.0.2.1 51034')}`;
  const { names, remote } = await ask(socket, fields);
  assert.deepStrictEqual(names, ['host', 'x-last', 'connection', 'upgrade']);
  assert.deepStrictEqual(remote, ['192.0.2.1', 51034, 'IPv4']);
});

test('on its own connection a client names nobody', { timeout }, async (t) => {
  const master = start(t, [node, app('peer.js')]);
  const socket = await connect(await master.port());
  const { names, remote } = await ask(socket, peer('192.0.2.1 51034'));
  assert.deepStrictEqual(names, ['host', 'x-last', 'x-tenfold-peer']);
  assert.deepStrictEqual(remote, ['127.0.0.1', socket.localPort, 'IPv4']);
});
