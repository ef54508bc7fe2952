'use strict';
// Which process becomes the worker, and what it and the others see.

const assert = require('node:assert');
const { execFileSync, spawnSync } = require('node:child_process');
const path = require('node:path');
const { test } = require('node:test');
const { app, get, start } = require('./master.js');

const node = process.execPath;
const major = Number(process.versions.node.split('.')[0]);
const timeout = 20_000;

test('a plain app becomes a cluster worker of the master', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  const attach = await master.message({ act: 'attach' });
  const seen = JSON.parse((await get(await master.port())).body);
  assert.deepStrictEqual(master.messages[0], {
    cmd: 'NODE_TENFOLD',
    act: 'attach',
    pid: seen.pid,
    node: process.versions.node,
  });
  assert.strictEqual(attach.pid, seen.pid);
  assert.deepStrictEqual(seen, {
    pid: seen.pid,
    id: 7,
    isPrimary: false,
    isWorker: true,
    send: 'function',
    variables: [],
  });
});

test('process.send reaches the master as an app message', { timeout }, async (t) => {
  const master = start(t, [node, app('http.js')]);
  await master.until(() => master.messages.includes('ready'));
});

test('with wait_ready an app may send before it listens', { timeout }, async (t) => {
  const master = start(t, [node, app('once.js')], { TENFOLD_WAIT_READY: '1' });
  await master.until(() => master.messages.includes('hello'));
  assert.strictEqual((await master.event('exit')).code, 0);
});

test('a process that only asked for its role ends when its work does', { timeout }, async (t) => {
  const master = start(t, [node, app('once.js')]);
  assert.strictEqual((await master.event('exit')).code, 0);
  assert.ok(master.output.includes('worker\ndone'));
});

test('the process that listens attaches, not its launcher', { timeout }, async (t) => {
  const master = start(t, [
    node,
    app('launch.js'),
    'spawn',
    app('launch.js'),
    'spawn',
    app('http.js'),
  ]);
  const seen = JSON.parse((await get(await master.port())).body);
  assert.strictEqual((await master.message({ act: 'attach' })).pid, seen.pid);
});

test('a shell between changes nothing', { timeout }, async (t) => {
  const master = start(t, ['sh', '-c', `"${node}" "${app('http.js')}"; true`]);
  assert.strictEqual((await get(await master.port())).status, 200);
});

test('a process with a channel to its parent keeps it and serves', { timeout }, async (t) => {
  const master = start(t, [node, app('launch.js'), 'fork', app('http.js')]);
  const seen = JSON.parse((await get(await master.port())).body);
  assert.ok(seen.isWorker);
  await master.prints('parent got ready');
  const answers = Array.from({ length: 50 }, () => master.port().then(get));
  for (const { status } of await Promise.all(answers)) assert.strictEqual(status, 200);
  master.drain();
  master.disconnect();
  assert.strictEqual((await master.event('exit')).code, 0);
});

test('a restarted app attaches again', { timeout }, async (t) => {
  const master = start(t, [node, app('launch.js'), 'restart', app('http.js')]);
  const { pid } = await master.message({ act: 'attach' });
  await master.port();
  process.kill(pid, 'SIGKILL');
  await master.event('detached');
  const seen = JSON.parse((await get(await master.port(2))).body);
  assert.notStrictEqual(seen.pid, pid);
});

test('only the first of two listening processes attaches', { timeout }, async (t) => {
  const command = `"${node}" "${app('listen.js')}" '{"port":0}'`;
  const master = start(t, ['sh', '-c', `${command} & exec ${command}`]);
  await master.until(() => master.output.split('address {').length === 3);
  await master.port();
  for (const act of ['attach', 'queryServer', 'listening']) {
    assert.strictEqual(master.messages.filter((message) => message.act === act).length, 1);
  }
});

for (const name of ['own-cluster.js', 'own-cluster.mjs']) {
  test(
    `an app with its own cluster code takes the worker branch: ${name}`,
    { timeout },
    async (t) => {
      const master = start(t, [node, app('launch.js'), 'spawn', app(name)]);
      const seen = JSON.parse((await get(await master.port())).body);
      assert.strictEqual(seen.isPrimary, false);
      assert.ok(!master.output.includes('primary branch'));
    },
  );
}

test('a primary that forks without asking is reported and still serves', { timeout }, async (t) => {
  const master = start(t, [node, app('forks.js')]);
  assert.strictEqual((await master.message({ act: 'bypass' })).why, 'cluster.fork');
  const { pid } = await master.message({ act: 'attach' });
  assert.notStrictEqual(JSON.parse((await get(await master.port())).body).pid, pid);
});

test('ESM apps, NODE_OPTIONS with content and other preloads coexist', { timeout }, async (t) => {
  // One before ours, by NODE_OPTIONS, and one after, by the command.
  const command = [node, '--require', app('later-preload.js'), app('own-cluster.mjs')];
  const master = start(t, command, { NODE_OPTIONS: `--require "${app('other-preload.js')}"` });
  assert.strictEqual((await get(await master.port())).status, 200);
  assert.ok(master.output.includes('other preload sees listen'));
  assert.ok(!master.output.includes('unexpected'));
});

test(
  'the permission model leaves everything but threads and children',
  { timeout, skip: major < 20 && 'Node 18 has none' },
  async (t) => {
    const flag = major === 20 ? '--experimental-permission' : '--permission';
    const root = path.join(__dirname, '..');
    const master = start(t, [node, flag, `--allow-fs-read=${root}/*`, app('http.js')]);
    assert.strictEqual((await get(await master.port())).status, 200);
    await master.pageHas({ seen: 1, open: 0 });
    assert.ok(!master.messages.some(({ act }) => act === 'fault'));
  },
);

test('without a master the preload is silent', () => {
  const preload = path.join(__dirname, '..', 'preload.cjs');
  const run = (env) =>
    spawnSync(node, ['--require', preload, '-e', 'console.log(process.env.A)'], {
      env,
      encoding: 'utf8',
    });
  for (const env of [{ A: 'b' }, { A: 'b', TENFOLD_CONTROL_FD: '100', TENFOLD_TOKEN_FD: '101' }]) {
    const { stdout, stderr } = run(env);
    assert.strictEqual(stdout, 'b\n');
    assert.strictEqual(stderr, '');
  }
});

test('descriptors that are not ours are left alone', { timeout }, () => {
  const preload = path.join(__dirname, '..', 'preload.cjs');
  const script = `require('net').createServer().listen(0, function () {
    console.log('listens'); this.close() })`;
  const env = {
    ...process.env,
    TENFOLD_CONTROL_FD: '0',
    TENFOLD_TOKEN_FD: '0',
    TENFOLD_LOAD_FD: '0',
  };
  const stdout = execFileSync(node, ['--require', preload, '-e', script], {
    env,
    input: 'x',
    encoding: 'utf8',
  });
  assert.strictEqual(stdout, 'listens\n');
});

test('a failure of the preload is one line and the app starts', { timeout }, async (t) => {
  const master = start(t, [node, '--require', app('broken-node.js'), app('http.js')]);
  await master.prints('tenfold preload:');
  await master.prints('app listens by itself');
});
