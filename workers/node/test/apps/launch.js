// Runs another Node process as a wrapper does: `launch.js spawn|fork|restart SCRIPT`.
'use strict';
const { fork, spawn } = require('child_process');

const [how, ...command] = process.argv.slice(2);
if (how === 'fork') {
  fork(command[0], command.slice(1)).on('message', (message) => console.log('parent got', message));
} else if (how === 'restart') {
  const again = () => spawn(process.execPath, command, { stdio: 'inherit' }).once('exit', again);
  again();
} else {
  spawn(process.execPath, command, { stdio: 'inherit' }).once('exit', (code) => process.exit(code));
}
