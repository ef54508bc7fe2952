// One server of each kind, listening in this order.
'use strict';
const http2 = require('http2');

class Own extends require('http').Server {}
const servers = [
  require('http').createServer(),
  new Own(),
  require('https').createServer(),
  http2.createServer(),
  http2.createSecureServer(),
  require('net').createServer(),
  require('tls').createServer(),
];
const next = () => servers.length && servers.shift().listen(0, '127.0.0.1', next);
next();
