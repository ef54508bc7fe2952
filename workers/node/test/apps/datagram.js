// Binds a port picked by the kernel, then the one of its argument.
'use strict';
const dgram = require('dgram');
dgram.createSocket('udp4').bind(() => {
  console.log('own port bound');
  const socket = dgram.createSocket('udp4', (message, { port }) => socket.send(message, port));
  socket.bind(Number(process.argv[2]), '127.0.0.1', () => console.log('fixed port bound'));
});
