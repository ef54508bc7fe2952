// HTTPS, HTTP/2 and a raw echo without a certificate: the clients share a key with the server.
'use strict';
const key = { ciphers: 'PSK', maxVersion: 'TLSv1.2', pskCallback: () => Buffer.from('00112233445566778899aabbccddeeff', 'hex') };
const answer = (request, response) => request.url !== '/hold' && response.end('ok');
const servers = [
  require('https').createServer(key, answer),
  require('http2').createServer(answer),
  require('net').createServer((socket) => socket.pipe(socket)),
  require('http').createServer().on('upgrade', (request, socket) => socket.write('HTTP/1.1 101 Switching\r\n\r\n')),
];
const next = () => servers.length && servers.shift().listen(0, '127.0.0.1', next);
next();
