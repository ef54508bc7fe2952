// A primary that never asks for its role.
'use strict';
const cluster = require('cluster');

cluster.setupPrimary({ exec: require('path').join(__dirname, 'http.js') });
cluster.fork();
cluster.fork();
