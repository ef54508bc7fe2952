// HTTPS, HTTP/2 and a raw echo without a certificate: the clients share a key with the server.
'use strict';
const key = {
  ciphers: 'PSK',
  maxVersion: 'TLSv1.2',
  pskCallback: () => Buffer.from('00112233445566778899aabbccddeeff', 'hex'),
};
const answer = (request, response) => request.url !== '/hold' && response.end('ok');
const upgrade = [
  'HTTP/1.1 101 Switching Protocols',
  'Connection: Upgrade',
  'Upgrade: test',
  '',
  '',
].join('\r\n');
const ignore = () => {};
const upgraded = (request, socket) => {
  socket
    .on('error', ignore)
    .once('end', () => socket.end())
    .resume()
    .write(upgrade);
};
const servers = [
  require('https').createServer(key, answer),
  require('http2').createServer(answer),
  require('net').createServer((socket) => socket.on('error', ignore).pipe(socket)),
  require('http').createServer().on('upgrade', upgraded),
];
const next = () => servers.length && servers.shift().listen(0, '127.0.0.1', next);
next();
