// The pattern of Node's own documentation.
'use strict';
const cluster = require('cluster');

if (cluster.isPrimary) {
  console.log('took the primary branch');
  cluster.fork();
} else {
  require('./http.js');
}
