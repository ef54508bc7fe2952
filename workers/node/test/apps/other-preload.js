// Instrumentation loaded before the preload: it wraps what the preload wraps.
'use strict';
const net = require('net');
const { listen } = net.Server.prototype;
net.Server.prototype.listen = function (...args) {
  console.log('other preload sees listen');
  return listen.apply(this, args);
};
