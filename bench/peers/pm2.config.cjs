// PM2 in cluster mode, as its manual's first example for several CPUs.
module.exports = {
  apps: [
    {
      name: 'bench',
      script: process.env.APP,
      // Node's cluster module below, so that all listen on one port.
      exec_mode: 'cluster',
      instances: Number(process.env.WORKERS),
      // Nobody else watches files.
      watch: false,
      // Nobody else writes logs; workers say nothing anyway.
      out_file: '/dev/null',
      error_file: '/dev/null',
    },
  ],
};
