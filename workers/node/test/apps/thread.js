// Listens in a worker thread only.
'use strict';
const { Worker, isMainThread } = require('worker_threads');
if (isMainThread) new Worker(__filename);
else
  require('net')
    .createServer()
    .listen(0, '127.0.0.1', () => console.log('thread listens'));
