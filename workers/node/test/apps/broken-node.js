// Takes away what the preload attaches with, as a future Node might.
'use strict';
require('child_process')._forkChild = () => {
  throw new Error('no such thing');
};
const { emit } = require('net').Server.prototype;
require('net').Server.prototype.emit = function (name, ...args) {
  if (name === 'listening') console.log('app listens by itself');
  return emit.call(this, name, ...args);
};
