'use strict';
// The package's own functions, with and without a master.

const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const { test } = require('node:test');
const { app, start } = require('./master.js');

const node = process.execPath;
const timeout = 20_000;

test('an app hears of drain and pressure and says ready', { timeout }, async (t) => {
  const master = start(t, [node, app('api.js')]);
  await master.prints('slot 0 ready true');
  await master.until(() => master.messages.includes('ready'));
  await master.port();
  master.send({ cmd: 'NODE_TENFOLD', act: 'pressure', level: 2 });
  await master.prints('pressure 2');
  master.drain();
  await master.prints('drain');
});

test('ready reaches the master past the channel to a parent', { timeout }, async (t) => {
  const master = start(t, [node, app('launch.js'), 'fork', app('api.js')]);
  await master.until(() => master.messages.includes('ready'));
});

test('without a master nothing happens', () => {
  assert.strictEqual(
    execFileSync(node, [app('api.js')], { encoding: 'utf8' }),
    'slot undefined ready false\n',
  );
});
