// The same through named ESM exports, which are read once, at import.
import { isPrimary, fork } from 'node:cluster';

if (isPrimary) {
  console.log('took the primary branch');
  fork();
} else {
  await import('./http.js');
}
