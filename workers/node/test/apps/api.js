// Uses every function of the package.
'use strict';
const { ready, onDrain, onPressure, workerSlot } = require('../../index.js');

onPressure((level) => console.log(`pressure ${level}`));
onDrain(() => console.log('drain'));
console.log(`slot ${workerSlot} ready ${ready()}`);
if (workerSlot !== undefined) require('http').createServer().listen(0, '127.0.0.1');
