// Answers in two parts, the second when the session is told to go.
'use strict';
const server = require('http2').createServer((request, response) => {
  response.write('first ');
  const wait = () => (request.stream.session.closed ? response.end('last') : setTimeout(wait, 10));
  wait();
});
server.listen(0, '127.0.0.1');
