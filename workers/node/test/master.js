'use strict';
// Starts a command as a worker of master.py with the preload, and lets a test wait for what
// happens.

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const readline = require('node:readline');

const PRELOAD = path.join(__dirname, '..', 'preload.cjs');
const app = (name) => path.join(__dirname, 'apps', name);

class Master {
  constructor(test, command, env) {
    this.events = [];
    this.waiting = new Set();
    this.output = '';
    const options = [process.env.NODE_OPTIONS, env.NODE_OPTIONS, `--require ${PRELOAD}`].filter(
      Boolean,
    );
    const own = {
      ...process.env,
      PATH: `${path.dirname(process.execPath)}:${process.env.PATH}`,
      ...env,
    };
    delete own.NODE_TEST_CONTEXT;
    this.process = spawn('python3', [path.join(__dirname, 'master.py'), ...command], {
      env: { ...own, NODE_OPTIONS: options.join(' ') },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.process.stdin.on('error', () => {});
    this.process.stderr.setEncoding('utf8').on('data', (text) => {
      this.output += text;
      this.settle();
    });
    readline.createInterface({ input: this.process.stdout }).on('line', (line) => {
      this.events.push(JSON.parse(line));
      this.settle();
    });
    const ended = once(this.process, 'close').then(() => {
      this.ended = true;
      this.settle();
    });
    test.after(async () => {
      this.process.stdin.end();
      await ended;
    });
  }

  settle() {
    for (const check of this.waiting) check();
  }

  /** Resolves with the first truthy result of `find`, asked again whenever something happens. */
  until(find) {
    return new Promise((resolve, reject) => {
      const check = () => {
        const found = find();
        if (!found && !this.ended) return;
        this.waiting.delete(check);
        if (found) resolve(found);
        else
          reject(
            new Error(`the master ended: ${this.output} ${JSON.stringify(this.events.slice(-5))}`),
          );
      };
      this.waiting.add(check);
      check();
    });
  }

  event(name) {
    return this.until(() => this.events.find(({ event }) => event === name));
  }

  get messages() {
    return this.events.filter(({ event }) => event === 'message').map(({ message }) => message);
  }

  /** The `nth` message, sent or yet to come, that has all of these fields. */
  message(fields, nth = 1) {
    const fits = (message) =>
      Object.entries(fields).every(([key, value]) => message[key] === value);
    return this.until(() => this.messages.filter((message) => message && fits(message))[nth - 1]);
  }

  /** Text of the worker's stdout and stderr. */
  prints(text) {
    return this.until(() => this.output.includes(text));
  }

  order(what, more) {
    this.process.stdin.write(`${JSON.stringify({ do: what, ...more })}\n`);
  }

  send(message) {
    this.order('send', { message });
  }

  drain() {
    this.send({ cmd: 'NODE_TENFOLD', act: 'drain' });
  }

  disconnect() {
    this.send({ cmd: 'NODE_CLUSTER', act: 'disconnect' });
  }

  async page() {
    const seen = this.events.filter(({ event }) => event === 'page').length;
    this.order('page');
    const { values } = await this.until(
      () => this.events.filter(({ event }) => event === 'page')[seen],
    );
    if (values === null) return this.page();
    const [, seenCount, open, active, beat, delay, utilisation, heap, limit, finished, pid, flags] =
      values;
    return {
      seen: seenCount,
      open,
      active,
      beat,
      delay,
      utilisation,
      heap,
      limit,
      finished,
      pid,
      flags,
    };
  }

  /** Reads the page until it has all of these values; the test's timeout bounds the wait. */
  async pageHas(fields) {
    for (;;) {
      const page = await this.page();
      if (Object.entries(fields).every(([key, value]) => page[key] === value)) return page;
    }
  }

  /** The port of the first (or nth) TCP listener once the app listens on it. */
  async port(nth = 1) {
    return (await this.message({ act: 'listening' }, nth)).port;
  }
}

/** Starts `command`; everything is killed when the test ends. */
function start(test, command, env = {}) {
  return new Master(test, command, env);
}

/** One request; resolves with status, headers and body. */
function get(port, url = '/', options = {}) {
  return new Promise((resolve, reject) => {
    const request = http.get(
      { port, host: '127.0.0.1', path: url, agent: false, ...options },
      (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (text) => (body += text));
        response.on('end', () =>
          resolve({ status: response.statusCode, headers: response.headers, body }),
        );
        response.on('error', reject);
      },
    );
    request.on('error', reject);
  });
}

/** A raw connection, established. */
async function connect(port) {
  const socket = net.connect(port, '127.0.0.1').on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

module.exports = { app, connect, get, start };
