// Instrumentation loaded after the preload: it looks at the role before the app runs.
'use strict';
if (require('cluster').isWorker) console.log('unexpected: a worker before the app ran');
