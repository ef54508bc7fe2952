'use strict';
// Node's own cluster, with the restart that every guide adds to it.
const cluster = require('node:cluster');

// SCHED=shared: workers accept by themselves from one socket. Else the primary deals in turn, which
// is Node's default on Linux.
if (process.env.SCHED === 'shared') cluster.schedulingPolicy = cluster.SCHED_NONE;
// The same app that everybody runs, unchanged.
cluster.setupPrimary({ exec: process.env.APP });
for (let i = 0; i < Number(process.env.WORKERS); i += 1) cluster.fork();
// A worker that died is replaced at once.
cluster.on('exit', () => cluster.fork());
