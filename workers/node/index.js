'use strict';
// What an app may say to and hear from tenfold; without a master every call does nothing.

const diagnostics = require('diagnostics_channel');

const slot = process.env.TENFOLD_SLOT;

/** The worker's stable number from 0, or undefined without a master. */
exports.workerSlot = slot === undefined ? undefined : Number(slot);

/**
 * Says that this worker may get work, where the master waits for it. Returns whether there is a
 * master.
 */
exports.ready = () => {
  const channel = diagnostics.channel('tenfold.ready');
  channel.publish(undefined);
  return channel.hasSubscribers;
};

/** Calls `callback` once, when this worker begins to drain. */
exports.onDrain = (callback) => {
  const once = () => {
    diagnostics.channel('tenfold.drain').unsubscribe(once);
    callback();
  };
  subscribe('tenfold.drain', once);
};

/**
 * Calls `callback` with the level, 0 (none) to 3, whenever the master's pressure on this worker
 * changes.
 */
exports.onPressure = (callback) => {
  subscribe('tenfold.pressure', (level) => callback(level));
};

function subscribe(name, handler) {
  if (diagnostics.subscribe) diagnostics.subscribe(name, handler);
  else diagnostics.channel(name).subscribe(handler);
}
