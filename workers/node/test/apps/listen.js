// Listens as its argument says; the argument is the options of server.listen() in JSON.
'use strict';
const server = require('http').createServer((request, response) => response.end('ok'));
server.on('error', (error) => console.log(`server error ${error.code}`));
server.listen(JSON.parse(process.argv[2]), () =>
  console.log(`address ${JSON.stringify(server.address())}`),
);
