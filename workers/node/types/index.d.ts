/** The worker's stable number from 0, or undefined without a master. */
export const workerSlot: number | undefined;

/**
 * Says that this worker may get work, where the master waits for it (`wait_ready`).
 * Returns whether there is a master.
 */
export function ready(): boolean;

/** Calls `callback` once, when this worker begins to drain: no new connections, finish the old. */
export function onDrain(callback: () => void): void;

/**
 * Calls `callback` with the level, 0 (none) to 3, whenever the master's pressure on this worker
 * changes.
 */
export function onPressure(callback: (level: number) => void): void;
