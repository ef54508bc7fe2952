// Says what it sees of its client, in answers and after upgrades.
'use strict';
const seen = ({ headers, rawHeaders, socket }) =>
  JSON.stringify({
    names: Object.keys(headers),
    rawHeaders,
    remote: [socket.remoteAddress, socket.remotePort, socket.remoteFamily],
  });

require('http')
  .createServer((request, response) => response.end(seen(request)))
  .on('upgrade', (request, socket) => socket.end(`HTTP/1.1 101 Up\r\n\r\n${seen(request)}`))
  .listen(0, '127.0.0.1');
