// Looks at its role, talks to whoever may listen, and ends.
'use strict';
if (require('cluster').isWorker) console.log('worker');
if (process.send) process.send('hello');
console.log('done');
