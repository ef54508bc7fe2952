'use strict';
// Makes the first process of a worker's tree that listens a worker of tenfold's master.
//
// NODE_OPTIONS loads this file into every Node process of the tree: package managers, watchers,
// children, worker threads. Until a process listens, it only waits. The first that does takes the
// one token byte, opens the control channel and is from then on, for the app and for Node, a
// cluster worker of the master; every other process behaves as if this file did not exist.
//
// Invariants
// - Nothing that fails in here reaches the app: our own errors become one `fault`, the app's stay
//   the app's.
// - No list of program names: who listens, decides.
// - The channel keeps no process alive; only a listening server or an unanswered question does.
// - One file, no dependencies, syntax of Node 18. What it needs, it takes before the app can
//   replace it.

const diagnostics = require('diagnostics_channel');
const fs = require('fs');
const { env, hrtime } = process;
const { writeSync } = fs;
const { setInterval, clearInterval, setImmediate, setTimeout } = globalThis;

const [MAJOR, MINOR] = process.versions.node.split('.').map(Number);
const THREAD_CHANNEL = 'tenfold.preload';

// Ten wake-ups a second find every delay that matters to balancing and cost about 0.1 % of a core.
const TICK_INTERVAL_MS = 100;
// A timer is a little late each time; ten would make the beat rarer than the second that is
// promised.
const TICKS_PER_BEAT = 9;
const BEAT_INTERVAL_MS = TICK_INTERVAL_MS * TICKS_PER_BEAT;
// An event loop that is busy for less of a beat delays nothing for longer than 18 ms in it.
const REST_UTILISATION = 0.02;
const CLOSE_IDLE_INTERVAL_MS = 100;
// The master's own `shutdown.total`: without a master nobody else ends the wait.
const ORPHAN_GRACE_MS = 25_000;
// The largest delay a timer takes: an open handle that does nothing.
const FOREVER_MS = 2 ** 31 - 1;
// `ready` and a few status messages fit; more before the first listen is a flood that nobody reads.
const MAX_EARLY_MESSAGES = 16;

const noop = () => {};
const QUIETLY = { swallowErrors: true };

// ------------------------------------------------------------------------------------------ errors

let channel = null;
let faulted = false;

/**
 * Reports our own failure, once: through the channel if there is one, else as one line on stderr.
 */
function fault(error) {
  if (faulted) return;
  faulted = true;
  const text = String((error && error.stack) || error).slice(0, 2000);
  try {
    if (channel) tellTenfold({ act: 'fault', error: text });
    else writeSync(2, `tenfold preload: ${text.replace(/\s*\n\s*/g, ' | ')}\n`);
  } catch {
    // Neither way is open; there is no third, and the app must run.
  }
}

/** Runs our own code where an exception would hit the app; undefined if it failed. */
function guarded(work, ...args) {
  try {
    return work(...args);
  } catch (error) {
    fault(error);
    return undefined;
  }
}

// --------------------------------------------------------------------------------------- load page

// Sixteen doubles, written whole; a reader takes the page only if its first equals its last.
const [VERSION, SEEN, OPEN, ACTIVE, BEAT, DELAY, UTILISATION] = [0, 1, 2, 3, 4, 5, 6];
const [HEAP_USED, HEAP_LIMIT, FINISHED, PID, FLAGS, VERSION_AGAIN] = [7, 8, 9, 10, 11, 15];
const FLAG_DRAINING = 1;
const FLAG_INSPECTED = 2;
const FLAG_WRITES_HEAP = 4;

const page = new Float64Array(16);
let pageFd = -1;
let turnScheduled = false;
let isStale = false;
let isResting = false;
let wakeUp = noop;

/**
 * Starts the reports, if `fd` is still the master's page and not a file of somebody who reused the
 * number.
 */
function startLoadPage(fd) {
  const stat = fs.fstatSync(fd);
  if (!stat.isFile() || stat.nlink !== 0 || stat.size !== 4096) return;
  const { eventLoopUtilization } = require('perf_hooks').performance;
  const { getHeapStatistics } = require('v8');
  const isInspected = inspection();
  let before = eventLoopUtilization();
  let [timer, interval] = [undefined, 0];
  let [last, ticks, latest, version] = [0, 0, 0, 0];
  const beat = () => {
    const now = eventLoopUtilization();
    page[UTILISATION] = eventLoopUtilization(now, before).utilization;
    before = now;
    page[DELAY] = latest;
    latest = 0;
    const heap = getHeapStatistics();
    page[HEAP_USED] = heap.used_heap_size;
    page[HEAP_LIMIT] = heap.heap_size_limit;
    if (isInspected()) page[FLAGS] |= FLAG_INSPECTED;
    else page[FLAGS] &= ~FLAG_INSPECTED;
    const wasQuiet = page[VERSION] === version && !isStale && page[ACTIVE] === 0;
    writePage();
    version = page[VERSION];
    ticks = 0;
    return wasQuiet && page[UTILISATION] < REST_UTILISATION;
  };
  // Not monitorEventLoopDelay: it forgets whatever blocks between a reset and the next tick.
  const tick = () => {
    const now = monotonicMs();
    latest = Math.max(latest, now - last - interval);
    last = now;
    ticks += 1;
    if (isResting || ticks >= TICKS_PER_BEAT || latest > BEAT_INTERVAL_MS) rest(beat());
    else if (isStale) writePage();
  };
  const tickEach = (ms) => {
    clearInterval(timer);
    interval = ms;
    timer = setInterval(guarded, ms, tick).unref();
  };
  // Of a worker that does nothing nobody asks how late it is: it wakes up for its beats alone, until
  // it takes something. What it takes is told a tick later, and so within a second of its beat.
  const rest = (isQuiet) => {
    if (isResting === isQuiet) return;
    isResting = isQuiet;
    tickEach(isQuiet ? BEAT_INTERVAL_MS : TICK_INTERVAL_MS);
  };
  wakeUp = () => {
    last = monotonicMs();
    rest(false);
  };
  page[PID] = process.pid;
  pageFd = fd;
  last = monotonicMs();
  tickEach(TICK_INTERVAL_MS);
  beat();
}

/** Tells whether a debugger may hold the process still: then its silence means nothing. */
function inspection() {
  try {
    const { url } = require('inspector');
    return () => url() !== undefined;
  } catch {
    // Built without, or forbidden by the permission model.
    return () => false;
  }
}

function monotonicMs() {
  const [seconds, nanoseconds] = hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

function writePage() {
  if (pageFd < 0) return;
  isStale = false;
  page[VERSION_AGAIN] = ++page[VERSION];
  page[BEAT] = monotonicMs();
  try {
    writeSync(pageFd, page, 0, page.byteLength, 0);
  } catch (error) {
    pageFd = -1;
    fault(error);
  }
}

/** `open` fell, or a refusal was seen: the master ranks by that, so it goes out with this turn. */
function connectionsChanged() {
  if (turnScheduled || pageFd < 0) return;
  turnScheduled = true;
  setImmediate(() => {
    turnScheduled = false;
    writePage();
  });
}

/**
 * Something changed that the next write may tell, at the latest that of the next tick: `active`,
 * which only breaks ties, or a connection taken, which the master counts since it sent it. Writing
 * each of these at once, or by a timer of its own, costs more than all else in here.
 */
function laterWillDo() {
  isStale = true;
  if (isResting) wakeUp();
}

// ------------------------------------------------------------------------------------- where it is

/**
 * Starts a thread that tells the master, over `fd`, where the JavaScript of this one is, also while
 * this one does not come back from it.
 */
function startStackThread(fd) {
  try {
    if (!fs.fstatSync(fd).isSocket()) return;
    const { Worker } = require('worker_threads');
    const own = typeof __filename === 'string' ? __filename : 'data:text/javascript,';
    const source = `(${tellStacks})(${JSON.stringify({ fd, own })})`;
    // Without our environment and our arguments it loads no preload, neither this nor another.
    const bare = { env: {}, execArgv: [], argv: [], stdout: true, stderr: true };
    const thread = new Worker(source, { eval: true, ...bare });
    hideThread(thread);
    thread.on('error', noop);
    thread.unref();
  } catch (error) {
    // The permission model forbids threads, or there is no inspector: whoever asks is told.
    const why = String((error && error.message) || error);
    try {
      writeSync(fd, `${JSON.stringify({ error: why })}\n`);
    } catch {
      // A process between has not passed it on; then nobody can be told.
    }
  }
}

/** Keeps the 'worker' event of our own thread from everybody. */
function hideThread(thread) {
  const before = Object.getOwnPropertyDescriptor(process, 'emit');
  const { emit } = process;
  const hiding = function (event, subject) {
    if (event === 'worker' && subject === thread) return false;
    return emit.apply(this, arguments);
  };
  process.emit = hiding;
  // Node has put that event on the same list, before this.
  process.nextTick(() => {
    if (process.emit !== hiding) return;
    delete process.emit;
    if (before) Object.defineProperty(process, 'emit', before);
  });
}

/**
 * All that the thread runs, as text: nothing outside of it is known in it. The main thread stands
 * still for as long as its stack is copied, and goes on if this thread fails or ends meanwhile: that
 * closes the session.
 */
function tellStacks({ fd, own }) {
  const { Session } = require('inspector');
  const { fileURLToPath } = require('url');
  // While the main thread waits for events, the preload's own timer is met within a second; in
  // native code nothing is met at all, and no question answered.
  const PATIENCE_MS = 2000;
  const [FRAMES_MAX, PLACE_MAX] = [64, 300];
  const socket = new (require('net').Socket)({ fd, readable: true, writable: true });

  const place = (url) => {
    try {
      return url.startsWith('file:') ? fileURLToPath(url) : url.slice(0, PLACE_MAX);
    } catch {
      return url.slice(0, PLACE_MAX);
    }
  };
  const text = ({ name, file, line, column }) => `${name || '<anonymous>'} (${file}:${line}:${column})`;
  const isOfApp = ({ file }) => !file.startsWith('node:') && !file.startsWith(own);

  const look = (id) => {
    const session = new Session();
    const scripts = new Map();
    let isOver = false;
    const end = (answer) => {
      if (isOver) return;
      isOver = true;
      session.disconnect();
      socket.write(`${JSON.stringify({ id, ...answer })}\n`);
    };
    const paused = ({ callFrames }) => {
      const frames = callFrames.slice(0, FRAMES_MAX).map((frame) => ({
        name: frame.functionName.slice(0, PLACE_MAX),
        file: place(scripts.get(frame.location.scriptId) || frame.url || ''),
        line: frame.location.lineNumber + 1,
        column: frame.location.columnNumber + 1,
      }));
      if (frames.some(isOfApp)) end({ doing: 'script', frames: frames.map(text) });
      else end({ doing: 'idle' });
    };
    session.on('Debugger.scriptParsed', ({ params: { scriptId, url } }) => scripts.set(scriptId, url));
    session.on('Debugger.paused', ({ params }) => {
      session.post('Debugger.resume');
      if (!isOver) paused(params);
    });
    session.connectToMainThread();
    session.post('Debugger.enable');
    let isHeard = false;
    session.post('Debugger.pause', () => (isHeard = true));
    setTimeout(() => end({ doing: isHeard ? 'idle' : 'native' }), PATIENCE_MS);
  };

  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (data) => {
    const lines = (rest + data).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      try {
        look(JSON.parse(line).id);
      } catch (error) {
        socket.write(`${JSON.stringify({ error: String((error && error.message) || error) })}\n`);
      }
    }
  });
  socket.on('error', () => socket.destroy());
}

// -------------------------------------------------------------------------------------------- heap

/**
 * Writes a snapshot of the heap into a new file, if it is not too late for that: nobody excuses a
 * silence that begins after `before`.
 */
function writeHeap({ path, before, room }) {
  let bytes;
  let error;
  try {
    if (monotonicMs() > before) throw new Error('it was asked too long ago');
    if (room) checkRoom(require('path').dirname(path), room);
    // Whoever reads a heap sees every secret in it. V8 would write through a link, too.
    fs.closeSync(fs.openSync(path, 'wx', 0o600));
    bytes = snapshot(path);
  } catch (caught) {
    error = String((caught && caught.message) || caught);
  }
  tellTenfold({ act: 'heap', bytes, error });
}

/** Refuses a file system without so many bytes for each of the heap. */
function checkRoom(directory, factor) {
  // Missing before Node 18.15: then a full disk ends the writing.
  if (!fs.statfsSync) return;
  const { bavail, bsize } = fs.statfsSync(directory);
  const used = require('v8').getHeapStatistics().used_heap_size;
  if (bavail * bsize >= factor * used) return;
  const mib = (bytes) => Math.floor(bytes / 2 ** 20);
  throw new Error(
    `${mib(used)} MiB of heap may become a file of ${mib(factor * used)} MiB, and ${directory} ` +
      `has room for ${mib(bavail * bsize)} MiB; --force tries it all the same`,
  );
}

/**
 * This thread stands still for as long as it takes. The page says so, since its silence means
 * nothing meanwhile. Returns the size of the file.
 */
function snapshot(path) {
  if (pageFd < 0) throw new Error('the load page cannot be written');
  page[FLAGS] |= FLAG_WRITES_HEAP;
  writePage();
  try {
    require('v8').writeHeapSnapshot(path);
    return fs.statSync(path).size;
  } catch (error) {
    try {
      fs.unlinkSync(path);
    } catch {
      // What failed before is what matters.
    }
    throw error;
  } finally {
    page[FLAGS] &= ~FLAG_WRITES_HEAP;
    writePage();
  }
}

// ------------------------------------------------------------------------------- a request's peer

// In request mode one private connection carries the requests of many clients. The master names each
// one's peer in a field that ends the head; it goes no further than here.
const PEER_FIELD = 'X-Tenfold-Peer';
const kPrivate = Symbol('tenfold.private');
const kPeer = Symbol('tenfold.peer');
const UNNAMED = ' ';
let kHeadersCount;

/** Makes `socket.remoteAddress` and its like those of the peer of this request. */
function namePeer(request, socket) {
  if (socket[kPeer] === undefined) preparePeer(socket);
  // A client's own connection: whatever it calls itself.
  if (socket[kPeer] === null) return;
  const { rawHeaders } = request;
  const last = rawHeaders.length - 2;
  const named = last >= 0 && rawHeaders[last] === PEER_FIELD;
  socket[kPeer] = named ? rawHeaders[last + 1] : UNNAMED;
  if (named) hidePeer(request, rawHeaders, last);
}

/** Takes the field out before `headers` is made of `rawHeaders`, which Node does when it is read. */
function hidePeer(request, rawHeaders, last) {
  if (kHeadersCount === undefined) {
    const symbols = Object.getOwnPropertySymbols(request);
    kHeadersCount = symbols.find((symbol) => symbol.description === 'kHeadersCount') || null;
  }
  if (kHeadersCount === null) {
    delete request.headers[PEER_FIELD.toLowerCase()];
    return;
  }
  // Two pops take a third of the time that setting the length does.
  rawHeaders.pop();
  rawHeaders.pop();
  if (request[kHeadersCount] > last) request[kHeadersCount] = last;
}

/** Own properties, once per connection; what they say is read from the field only when asked. */
function preparePeer(socket) {
  const handle = socket._handle;
  if (!handle || !handle[kPrivate]) {
    socket[kPeer] = null;
    return;
  }
  const own = (get) => ({ get, configurable: true, enumerable: true });
  Object.defineProperties(socket, {
    remoteAddress: own(remoteAddress),
    remotePort: own(remotePort),
    remoteFamily: own(remoteFamily),
  });
}

function remoteAddress() {
  const peer = this[kPeer];
  return peer.slice(0, peer.indexOf(' ')) || undefined;
}

function remotePort() {
  const peer = this[kPeer];
  return Number(peer.slice(peer.indexOf(' ') + 1)) || undefined;
}

function remoteFamily() {
  const peer = this[kPeer];
  if (peer === UNNAMED) return undefined;
  return peer.includes(':') ? 'IPv6' : 'IPv4';
}

/** A request that upgrades starts without the event that tells of all others. */
function watchUpgrades(server) {
  const { emit } = server;
  server.emit = function (event, request, socket) {
    if (event === 'upgrade') guarded(namePeer, request, socket);
    return emit.apply(this, arguments);
  };
}

// -------------------------------------------------------------------------------------- accounting

const kOpen = Symbol('tenfold.open');
const kActive = Symbol('tenfold.active');
const sessions = new Set();
let draining = false;
let roomWanted = false;
let whenEmpty = noop;

/**
 * Counts a handed connection until its descriptor is closed, whoever closes it and however it is
 * wrapped.
 */
function countOpen(handle) {
  handle[kOpen] = true;
  handle.close = closeCounted;
  if (handle.reset) handle.reset = resetCounted;
  page[OPEN] += 1;
}

function closeCounted(callback) {
  uncountOpen(this);
  return Object.getPrototypeOf(this).close.call(this, callback);
}

function resetCounted(callback) {
  uncountOpen(this);
  return Object.getPrototypeOf(this).reset.call(this, callback);
}

function uncountOpen(handle) {
  if (!handle[kOpen]) return;
  handle[kOpen] = false;
  page[OPEN] -= 1;
  if (handle[kActive] !== undefined) holderClosed(handle);
  connectionsChanged();
  if (roomWanted) tellRoom();
  if (page[OPEN] === 0) whenEmpty();
}

// The master waits for a connection to close after what it last read: `below` were open when `seen`
// had been seen. One may have closed meanwhile; what was taken meanwhile hides it in the count.
function wantRoom({ below, seen = page[SEEN] }) {
  if (page[OPEN] < below + page[SEEN] - seen) tellRoom();
  else roomWanted = true;
}

function tellRoom() {
  roomWanted = false;
  guarded(tellTenfold, { act: 'room' });
}

// A request has a start and, unless its connection breaks, a finish; what is still started when the
// connection closes is subtracted there. A finish after the close finds the count negative and is
// ignored. The count is held by the descriptor of a client's own connection, whose close is heard
// anyway; else (TLS, private connections, servers that are not the master's) by the socket.
function exchangeStarted({ socket, request, response }) {
  if (draining) response.shouldKeepAlive = false;
  const handle = socket._handle;
  if (handle && handle[kActive] !== undefined) {
    countStarted(handle);
    return;
  }
  guarded(namePeer, request, socket);
  if (socket[kActive] === undefined) {
    socket[kActive] = 0;
    socket.once('close', socketClosed);
  }
  countStarted(socket);
}

function countStarted(holder) {
  if (holder[kActive] < 0) return;
  holder[kActive] += 1;
  page[ACTIVE] += 1;
  laterWillDo();
}

function exchangeFinished({ socket }) {
  const handle = socket._handle;
  const holder = handle && handle[kActive] !== undefined ? handle : socket;
  if (!(holder[kActive] > 0)) return;
  holder[kActive] -= 1;
  exchangesEnded(1);
}

function socketClosed() {
  holderClosed(this);
}

function holderClosed(holder) {
  const unfinished = holder[kActive];
  holder[kActive] = -1;
  if (unfinished > 0) exchangesEnded(unfinished);
}

function exchangesEnded(count) {
  page[ACTIVE] -= count;
  page[FINISHED] += count;
  laterWillDo();
}

// Streams of HTTP/2 have diagnostics channels only from Node 22 on; the session's own event is in
// all.
function watchSessions(server) {
  if (!server.listeners('session').includes(watchSession)) server.on('session', watchSession);
}

function watchSession(session) {
  sessions.add(session);
  session.once('close', () => sessions.delete(session));
  session.on('stream', streamStarted);
  if (draining) session.close();
}

function streamStarted(stream) {
  page[ACTIVE] += 1;
  laterWillDo();
  stream.once('close', streamClosed);
}

function streamClosed() {
  exchangesEnded(1);
}

function startAccounting() {
  subscribe('http.server.request.start', exchangeStarted);
  subscribe('http.server.response.finish', exchangeFinished);
}

// ----------------------------------------------------------------------------------- the app's API

// index.js and this file know each other by these names only, so neither needs to find the other.
const toApp = {
  drain: diagnostics.channel('tenfold.drain'),
  pressure: diagnostics.channel('tenfold.pressure'),
};

function hookReady() {
  subscribe('tenfold.ready', () => guarded(() => attach() && channel.send('ready')));
}

// Node before 18.7 forgets a channel that nobody refers to, with its subscribers.
const subscribed = [];

function subscribe(name, handler) {
  const named = diagnostics.channel(name);
  subscribed.push(named);
  named.subscribe(handler);
}

// ----------------------------------------------------------------------------------------- channel

/**
 * Opens the control channel as the process's own, as Node does for a forked child: `process.send`
 * works. What listens to 'message' or 'disconnect' before the channel exists does not keep it
 * referenced.
 */
function openOwnChannel(fd, onMessage, onEnd) {
  process.on('internalMessage', onMessage);
  process.once('disconnect', onEnd);
  require('child_process')._forkChild(fd, 'json');
  const { _send } = process;
  process._send = function (message, handle, options, callback) {
    if (message && message.cmd === 'NODE_HANDLE_ACK') {
      confirmLater(() => _send.call(this, message, handle, options));
      return true;
    }
    return _send.call(this, message, handle, options, callback);
  };
  return {
    send: (message) => process.connected && _send.call(process, message, undefined, QUIETLY),
    close: () => process.connected && process.disconnect(),
  };
}

// Each descriptor is to be confirmed. The answer to a connection does that as well: without the
// message of its own the worker writes once and not twice, and the master reads half as much.
let confirm = null;

function confirmLater(send) {
  confirm = send;
}

function confirmDescriptor() {
  const send = confirm;
  confirm = null;
  if (send !== null) send();
}

/**
 * Opens the control channel beside the one a process already has to its parent (`node --watch`,
 * tsx, fork()), which keeps `process.send` and 'message'. Only Node's own code can make a pipe that
 * receives descriptors, so it makes one and everything it hung on `process` for that is put back.
 */
function openSideChannel(fd, onMessage, onEnd) {
  const pipe = takePipe(fd);
  const handles = [];
  Object.defineProperty(pipe, 'pendingHandle', {
    configurable: true,
    get: () => null,
    set: (handle) => handle && handles.push(handle),
  });
  // Node has it reading already, and a socket reports a second start as an error.
  pipe.readStop();
  const socket = new (require('net').Socket)({ handle: pipe, readable: true, writable: true });
  const send = (message) => !socket.destroyed && socket.write(`${JSON.stringify(message)}\n`);
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) receiveLine(line, handles, send, onMessage);
  });
  socket.on('error', noop);
  socket.once('close', onEnd);
  socket.unref();
  // Not end(): that shuts the socket down for the next process, which a watcher may start.
  return { send, close: () => socket.write('', () => socket.destroy()) };
}

function takePipe(fd) {
  const names = ['channel', '_channel', 'connected', 'send', '_send', 'disconnect', '_disconnect'];
  const symbol = Object.getOwnPropertySymbols(process).find(
    (s) => s.description === 'kChannelHandle',
  );
  const keys = [...names, '_handleQueue', '_pendingMessage', symbol];
  const kept = keys.map((key) => [key, Object.getOwnPropertyDescriptor(process, key)]);
  const events = ['internalMessage', 'newListener', 'removeListener'];
  const listeners = events.map((event) => new Set(process.rawListeners(event)));
  require('child_process')._forkChild(fd, 'json');
  const pipe = process[symbol];
  events.forEach((event, i) => {
    for (const listener of process.rawListeners(event)) {
      if (!listeners[i].has(listener)) process.removeListener(event, listener);
    }
  });
  for (const [key, descriptor] of kept) {
    delete process[key];
    if (descriptor) Object.defineProperty(process, key, descriptor);
  }
  return pipe;
}

function receiveLine(line, handles, send, onMessage) {
  let message;
  try {
    message = JSON.parse(line);
  } catch {
    return;
  }
  if (message === null || typeof message !== 'object') return;
  if (message.cmd !== 'NODE_HANDLE') {
    onMessage(message);
    return;
  }
  const handle = handles.shift();
  if (handle) {
    confirmLater(() => send({ cmd: 'NODE_HANDLE_ACK' }));
    onMessage(message.msg, handle);
  } else {
    send({ cmd: 'NODE_HANDLE_NACK' });
  }
}

// ---------------------------------------------------------------------------------- cluster worker

// Node's wire between a cluster primary and its worker. Ours instead of Node's own file for the
// worker's side, because that one can only be chosen before anything has loaded `cluster`, long
// before the first listen.
const listeners = new Map();
const answers = new Map();
const indexes = new Map();
let sequence = 0;
let worker = null;
let ended = false;

function tell(message) {
  channel.send({ cmd: 'NODE_CLUSTER', ...message, seq: sequence++ });
}

function tellTenfold(message) {
  channel.send({ cmd: 'NODE_TENFOLD', ...message });
}

/** Sends a question; the process stays alive until its answer, or the channel's end. */
function ask(message, onAnswer) {
  if (ended) return;
  answers.set(sequence, { onAnswer, hold: setInterval(noop, FOREVER_MS) });
  tell(message);
}

/** Stands in a `net.Server` for the listening handle that is the master's. */
class MastersListener {
  constructor(server, reply, forget) {
    this.server = server;
    this.key = reply.key;
    this.forget = forget;
    this.timer = null;
    // A Unix listener has no such method: `server.address()` is then the path.
    this.getsockname = reply.sockname && ((out) => (Object.assign(out, reply.sockname), 0));
    this.ref();
  }

  listen() {
    return 0;
  }

  ref() {
    if (this.timer === null) this.timer = setInterval(noop, FOREVER_MS);
  }

  unref() {
    clearInterval(this.timer);
    this.timer = null;
  }

  /** Whether it may refuse: then the master compares what is open before and after. */
  isBounded() {
    const { maxConnections: max } = this.server;
    return MAJOR >= 22 ? max !== null && max !== undefined : Boolean(max);
  }

  hasRoom() {
    const { maxConnections: max, _connections: count, dropMaxConnection } = this.server;
    return !this.isBounded() || count < max || Boolean(dropMaxConnection);
  }

  close() {
    if (listeners.get(this.key) !== this) return;
    this.unref();
    this.forget();
  }
}

/** Node calls this for each listen and each UDP bind of a cluster worker. */
function getServer(server, query, onHandle) {
  const datagram = String(query.addressType).startsWith('udp');
  if (!datagram && !isMasters(query)) {
    const { address, port, addressType, backlog, fd, flags } = query;
    server._listen2(address, port, addressType, backlog, fd, flags);
    return;
  }
  const address = query.port < 0 ? require('path').resolve(query.address) : query.address;
  const place = [address, query.port, query.addressType].join(':');
  const index = takeIndex(place);
  const data = server._getServerData ? server._getServerData() : null;
  const message = { ...query, address, index, data };
  const forget = (key) => {
    indexes.get(place).delete(index);
    if (key === undefined) return;
    listeners.delete(key);
    tell({ act: 'close', key });
  };
  if (!datagram) {
    const { port, addressType } = query;
    guarded(tellTenfold, { act: 'server', kind: kindOf(server), address, port, addressType });
    if (isHttp2(server)) guarded(watchSessions, server);
    else if (kindOf(server) === 'http') guarded(watchUpgrades, server);
  }
  ask({ act: 'queryServer', ...message }, (reply, handle) => {
    if (server._setServerData) server._setServerData(reply.data);
    if (reply.errno) {
      forget();
      onHandle(reply.errno, null);
      return;
    }
    const port = reply.sockname ? reply.sockname.port : query.port;
    server.once('listening', () => tell({ ...message, act: 'listening', port }));
    const release = () => forget(reply.key);
    onHandle(0, handle ? sharedHandle(handle, release) : newListener(server, reply, release));
  });
}

function newListener(server, reply, release) {
  const listener = new MastersListener(server, reply, release);
  listeners.set(reply.key, listener);
  return listener;
}

/**
 * Two servers of one process on one address get different numbers, so that the master refuses the
 * second.
 */
function takeIndex(place) {
  const taken = indexes.get(place) || new Set();
  indexes.set(place, taken);
  let index = 0;
  while (taken.has(index)) index += 1;
  taken.add(index);
  return index;
}

function sharedHandle(handle, forget) {
  handle.close = function close(callback) {
    delete this.close;
    forget();
    return this.close(callback);
  };
  return handle;
}

function isMasters({ address, port, fd }) {
  if (port >= 0 && port !== null) return true;
  return port < 0 && typeof address === 'string' && !(fd >= 0) && isMastersPath(address);
}

/**
 * Whether connections for this Unix path come from the master; the pipes of tools are the tools'
 * own.
 */
function isMastersPath(name) {
  const path = require('path');
  const absolute = path.resolve(name);
  const named = (unixPaths || '').split(':').filter(Boolean);
  if (named.some((one) => path.resolve(one) === absolute)) return true;
  const script = process.argv[1] || '';
  return (
    process.ppid === masterPid &&
    !script.includes(`${path.sep}node_modules${path.sep}`) &&
    // A name made of the own pid is private by intent.
    !absolute.split(/\D+/).includes(String(process.pid)) &&
    name[0] !== '\0'
  );
}

function kindOf(server) {
  if (isHttp2(server)) return 'http2';
  if (server instanceof require('http').Server) return 'http';
  if (!server._getServerData) return 'net';
  return server instanceof require('https').Server ? 'https' : 'tls';
}

function isHttp2(server) {
  for (let proto = server; proto !== null; proto = Object.getPrototypeOf(proto)) {
    const { name } = proto.constructor || {};
    if (name === 'Http2Server' || name === 'Http2SecureServer') return true;
  }
  return false;
}

function receive(message, handle) {
  if (message.cmd === 'NODE_TENFOLD') {
    if (message.act === 'drain') guarded(startDraining);
    if (message.act === 'heap') guarded(writeHeap, message);
    if (message.act === 'watch') wantRoom(message);
    if (message.act === 'pressure') toApp.pressure.publish(message.level);
  } else if (message.cmd === 'NODE_CLUSTER') {
    const question = answers.get(message.ack);
    if (question) {
      answers.delete(message.ack);
      clearInterval(question.hold);
      question.onAnswer(message, handle);
      confirmDescriptor();
    } else if (message.act === 'newconn') {
      receiveConnection(message, handle);
    } else if (message.act === 'disconnect') {
      leave({ announce: false });
    }
  }
}

function receiveConnection({ key, seq, private: isPrivate }, handle) {
  const listener = listeners.get(key);
  const accepted = Boolean(listener && handle && listener.hasRoom());
  page[SEEN] += 1;
  confirm = null;
  tell({ ack: seq, accepted });
  if (accepted && !isPrivate && !listener.isBounded()) laterWillDo();
  else connectionsChanged();
  if (accepted) {
    countOpen(handle);
    if (isPrivate) handle[kPrivate] = true;
    else handle[kActive] = 0;
    // The app's own code runs in here: what it throws is its own.
    listener.onconnection(0, handle);
  } else if (handle) {
    handle.close();
  }
}

// ----------------------------------------------------------------------------------------- leaving

/**
 * Phase one: clients on kept connections are told with their next response, HTTP/2 clients at once.
 */
function startDraining() {
  if (draining) return;
  draining = true;
  page[FLAGS] |= FLAG_DRAINING;
  for (const session of sessions) session.close();
  connectionsChanged();
  toApp.drain.publish(undefined);
}

/**
 * Phase two: closes every server, drops idle connections as they fall idle, lets go of the channel.
 */
function leave({ announce }) {
  worker.exitedAfterDisconnect = true;
  closeServers(() => {
    if (announce) ask({ act: 'exitedAfterDisconnect' }, () => channel.close());
    else channel.close();
  });
}

function closeServers(onClosed) {
  guarded(startDraining);
  const servers = [...listeners.values()];
  // Node closes what is idle at the moment of close(), not what falls idle later (18: neither).
  const closeIdle = () =>
    servers.forEach(({ server }) => server.closeIdleConnections && server.closeIdleConnections());
  setInterval(guarded, CLOSE_IDLE_INTERVAL_MS, closeIdle).unref();
  let left = servers.length + 1;
  const closed = () => {
    left -= 1;
    if (left === 0) onClosed();
  };
  for (const listener of servers) {
    if (listener.server._handle === listener) {
      listener.server.close(closed);
    } else {
      listener.close();
      closed();
    }
  }
  guarded(closeIdle);
  closed();
}

/** The channel ended; without a goodbye, the master is gone: finish what is open, then exit. */
function channelEnded() {
  ended = true;
  for (const { hold } of answers.values()) clearInterval(hold);
  answers.clear();
  if (worker.exitedAfterDisconnect) {
    worker.emit('disconnect');
    return;
  }
  worker.exitedAfterDisconnect = true;
  worker.emit('disconnect');
  const exit = () => process.exit(0);
  closeServers(noop);
  whenEmpty = () => setImmediate(exit);
  if (page[OPEN] === 0) whenEmpty();
  else setTimeout(exit, ORPHAN_GRACE_MS);
}

// ------------------------------------------------------------------------------------------ attach

const controlFd = Number(env.TENFOLD_CONTROL_FD);
const tokenFd = Number(env.TENFOLD_TOKEN_FD);
const loadFd = Number(env.TENFOLD_LOAD_FD);
const stackFd = Number(env.TENFOLD_STACK_FD);
const masterPid = Number(env.TENFOLD_MASTER);
const unixPaths = env.TENFOLD_UNIX;

// waiting → attached, or waiting → plain (another process has the channel; the hooks do nothing any
// more).
let phase = 'waiting';

/** Makes this process the worker, if no other process of the tree is. Returns whether it is. */
function attach() {
  if (phase !== 'waiting') return phase === 'attached';
  phase = 'plain';
  if (!takeToken()) return false;
  const open = process.channel ? openSideChannel : openOwnChannel;
  const early = takeEarlySend();
  const cluster = require('cluster');
  worker = newWorker(cluster.Worker);
  channel = open(controlFd, receive, channelEnded);
  // Before `attach`: what the master finds then decides whether it counts by this page or from
  // outside.
  guarded(startLoadPage, loadFd);
  tellTenfold({ act: 'attach', pid: process.pid, node: process.versions.node });
  tell({ act: 'online' });
  becomeWorker(cluster);
  phase = 'attached';
  for (const message of early) process.send(message);
  guarded(startAccounting);
  delete env.TENFOLD_CONTROL_FD;
  delete env.TENFOLD_TOKEN_FD;
  delete env.TENFOLD_LOAD_FD;
  if (env.TENFOLD_STACK_FD) startStackThread(stackFd);
  delete env.TENFOLD_STACK_FD;
  return true;
}

/** Builds `cluster.worker`. */
function newWorker(Worker) {
  const self = new Worker({ id: Number(env.TENFOLD_WORKER), state: 'online' });
  self.process = process;
  // Given the process, Worker would listen to 'message' for ever and so keep it alive; only the
  // app's wish may.
  self.on('newListener', function forward(name) {
    if (name !== 'message') return;
    self.removeListener('newListener', forward);
    process.on('message', (message, handle) => self.emit('message', message, handle));
  });
  self.disconnect = () => (leave({ announce: true }), self);
  self.destroy = () => {
    self.exitedAfterDisconnect = true;
    ask({ act: 'exitedAfterDisconnect' }, () => process.exit(0));
  };
  return self;
}

/** Reads the one byte that means "nobody has the channel"; the pipe never blocks. */
function takeToken() {
  try {
    if (!fs.fstatSync(tokenFd).isFIFO() || !fs.fstatSync(controlFd).isSocket()) return false;
    return fs.readSync(tokenFd, Buffer.alloc(1), 0, 1, null) === 1;
  } catch {
    // EAGAIN: taken. EBADF: a parent did not pass it on. Both mean: not this process.
    return false;
  }
}

/** Reports a listen that the master cannot serve; it proceeds as the app asked. */
function bypass(why, address, port) {
  if (attach()) tellTenfold({ act: 'bypass', why, address, port });
}

// ----------------------------------------------------------------------------- hooks: listen, bind

function hookListen(net, beforeListen) {
  const { listen } = net.Server.prototype;
  const hooked = function (...args) {
    guarded(beforeListen, args);
    return listen.apply(this, args);
  };
  net.Server.prototype.listen = Object.defineProperty(hooked, 'name', { value: 'listen' });
}

/** What the arguments of `server.listen` ask for, or null where Node will complain by itself. */
function listenTarget([first, second]) {
  if (first === null || first === undefined || typeof first === 'function') return { port: 0 };
  if (typeof first === 'object') {
    if (first._handle || first.handle) return null;
    const { fd, port, host, path, exclusive, reusePort } = first;
    if (typeof fd === 'number' && fd >= 0) return { fd };
    if (typeof path === 'string' && (port === undefined || port === null))
      return { path, exclusive };
    return { port: port || 0, address: host, exclusive, reusePort };
  }
  if (typeof first === 'string' && !(Number(first) >= 0)) return { path: first };
  return { port: Number(first), address: typeof second === 'string' ? second : undefined };
}

const HAS_REUSE_PORT = MAJOR > 23 || (MAJOR === 23 && MINOR >= 1) || (MAJOR === 22 && MINOR >= 12);

function whyBypassed({ fd, exclusive, reusePort }) {
  if (fd !== undefined) return 'fd';
  if (reusePort && HAS_REUSE_PORT) return 'reusePort';
  return exclusive ? 'exclusive' : null;
}

function beforeListen(args) {
  const target = listenTarget(args);
  if (target === null || phase === 'plain') return;
  if (target.path !== undefined && !isMastersPath(target.path)) return;
  const why = whyBypassed(target);
  if (why) bypass(why, target.path || target.address, target.path ? -1 : target.port);
  else attach();
}

/** A fixed UDP port is the master's to bind; one picked by the kernel stays this process's own. */
function hookBind(dgram) {
  const { bind } = dgram.Socket.prototype;
  const hooked = function (...args) {
    return bind.apply(this, guarded(beforeBind, args) || args);
  };
  dgram.Socket.prototype.bind = Object.defineProperty(hooked, 'name', { value: 'bind' });
}

function beforeBind(args) {
  if (phase === 'plain') return args;
  const [first, second] = args;
  const given =
    first !== null && typeof first === 'object' ? first : { port: first, address: second };
  if (given.exclusive || given.fd !== undefined || typeof given.recvStart === 'function')
    return args;
  if (Number(given.port) > 0) {
    attach();
    return args;
  }
  const address = typeof given.address === 'string' ? given.address : undefined;
  return [
    { port: 0, address, exclusive: true },
    ...args.filter((arg) => typeof arg === 'function'),
  ];
}

// -------------------------------------------------------------------- hooks: the app's own cluster

const ROLES = { isPrimary: false, isMaster: false, isWorker: true };
let forks = false;

/**
 * An app with `if (cluster.isPrimary) fork()` must take the other branch. So the app's first look
 * at its role attaches; Node's own looks, inside listen and bind, do not.
 */
function hookCluster(cluster) {
  const { fork } = cluster;
  for (const [role, value] of Object.entries(ROLES)) {
    let replaced;
    Object.defineProperty(cluster, role, {
      configurable: true,
      enumerable: true,
      get() {
        if (replaced !== undefined) return replaced;
        if (phase === 'plain') return !value;
        const byApp = guarded(isReadByApp);
        if (byApp && !forks) guarded(attach);
        return phase === 'attached' && !(forks && byApp) ? value : !value;
      },
      set(other) {
        replaced = other;
      },
    });
  }
  cluster.fork = function (...args) {
    const first = !forks;
    forks = true;
    if (first) guarded(bypass, 'cluster.fork');
    return fork.apply(this, args);
  };
}

/**
 * After attach nothing needs deciding: the roles are plain values again and what only a primary has
 * goes.
 */
function becomeWorker(cluster) {
  cluster._getServer = getServer;
  cluster.worker = worker;
  if (forks) return;
  for (const [role, value] of Object.entries(ROLES)) {
    Object.defineProperty(cluster, role, {
      configurable: true,
      enumerable: true,
      writable: true,
      value,
    });
  }
  const primarys = ['fork', 'setupPrimary', 'setupMaster', 'workers', 'settings', 'disconnect'];
  for (const name of primarys) delete cluster[name];
}

/**
 * Whether the code that reads the role is the app's: the nearest file is not Node's own. Where it
 * is Node's module loader, the read fills the named exports: of an ESM import (the app will not
 * read again: it counts) or of a plain require (it will).
 */
function isReadByApp() {
  const files = callingFiles().slice(1);
  if (files.some((file) => file === 'preload')) return false;
  const nearest = files.find((file) => file !== '' && file !== __filename) || '';
  if (!nearest.startsWith('node:')) return true;
  const loader = files.find((file) => /internal\/modules\/(esm|cjs)\//.test(file)) || '';
  return loader.includes('/esm/') && nearest.startsWith('node:internal/');
}

/** The files on the stack, nearest first; 'preload' stands for Node loading --require modules. */
function callingFiles() {
  const { prepareStackTrace, stackTraceLimit } = Error;
  try {
    Error.stackTraceLimit = 64;
    Error.prepareStackTrace = (_, sites) =>
      sites.map((site) =>
        site.getFunctionName() === 'loadPreloadModules' ? 'preload' : site.getFileName() || '',
      );
    const { stack } = new Error('where am I');
    return Array.isArray(stack) ? stack : [];
  } finally {
    Error.prepareStackTrace = prepareStackTrace;
    Error.stackTraceLimit = stackTraceLimit;
  }
}

// ------------------------------------------------------------------------- hooks: send and threads

let earlyMessages = null;

/**
 * With `wait_ready` an app may call process.send('ready') before it listens: that call attaches.
 */
function hookSend() {
  if (!env.TENFOLD_WAIT_READY || process.send) return;
  earlyMessages = [];
  process.send = (message) => {
    if (earlyMessages && earlyMessages.length < MAX_EARLY_MESSAGES) earlyMessages.push(message);
    return Boolean(guarded(attach));
  };
}

function takeEarlySend() {
  const messages = earlyMessages || [];
  if (earlyMessages) delete process.send;
  earlyMessages = null;
  return messages;
}

/**
 * A thread cannot use the channel; it tells the main thread, which opens its ear with the first
 * thread.
 */
function hookThreads() {
  process.once('worker', () =>
    guarded(() => {
      const { BroadcastChannel } = require('worker_threads');
      const ear = new BroadcastChannel(THREAD_CHANNEL);
      ear.onmessage = ({ data }) => guarded(bypass, 'worker_thread', data.address, data.port);
      ear.unref();
    }),
  );
}

function runInThread() {
  hookListen(require('net'), (args) => {
    const target = listenTarget(args);
    if (target === null || target.path !== undefined) return;
    const { BroadcastChannel } = require('worker_threads');
    const mouth = new BroadcastChannel(THREAD_CHANNEL);
    mouth.postMessage({ address: target.address, port: target.port });
    mouth.close();
  });
}

function runInProcess() {
  const cluster = require('cluster');
  // A worker of the app's own primary listens through that primary, which is the process that
  // attaches.
  if (cluster.isWorker) return;
  const net = require('net');
  const dgram = require('dgram');
  hookListen(net, beforeListen);
  hookBind(dgram);
  hookCluster(cluster);
  hookSend();
  hookReady();
  hookThreads();
}

/**
 * Puts back the PORT of the master's own environment. The one that a command of unknown kind gets is where it
 * would listen without the channel; an app that is served over the channel must not take it for its own.
 */
function restorePort() {
  if (env.TENFOLD_PORT === undefined || env.PORT !== env.TENFOLD_PORT) return;
  if (env.TENFOLD_OUTER_PORT) env.PORT = env.TENFOLD_OUTER_PORT;
  else delete env.PORT;
}

guarded(() => {
  if (!env.TENFOLD_CONTROL_FD && !env.TENFOLD_INSTANCE) return;
  restorePort();
  if (!require('worker_threads').isMainThread) runInThread();
  else if (env.TENFOLD_CONTROL_FD) runInProcess();
});
