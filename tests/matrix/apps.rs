//! The rows of the matrix: what is run, how it is reached, and what must be seen.

/// One app and what its users see of it.
pub(crate) struct App {
    pub(crate) name: &'static str,
    /// The command, without what starts it (`npm start`).
    pub(crate) command: &'static [&'static str],
    /// What each answer calls itself.
    pub(crate) answers: &'static str,
    pub(crate) reach: Reach,
    pub(crate) expect: Expect,
}

/// How a client gets to the app.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// HTTP/1.1 on the port that the app was told.
    Http,
    /// The same, and the answer's field has this value.
    HttpWith(&'static str, &'static str),
    /// HTTP/1.1 on two ports.
    TwoPorts,
    /// HTTP/1.1 on the port that the app prints.
    PrintedPort,
    /// HTTP/1.1 on a Unix socket.
    UnixPath,
    /// HTTP/1.1, and datagrams on the same port number.
    Udp,
    /// What the fixtures' client.js speaks: https, http2, h2c, ws.
    Client(&'static str),
}

/// Where the connections must go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// Through the master, to more than one worker.
    Shared,
    /// The app listens by itself, and the log says so.
    Bypass,
    /// A bypass from this major on, shared before.
    BypassFrom(u32),
}

impl App {
    /// Whether nothing but HTTP/1.1 on its port is asked of it, and nothing but node runs it.
    pub(crate) fn is_plain_http(&self) -> bool {
        let is_shared = matches!(self.expect, Expect::Shared);
        self.is_run_by_node_alone() && is_shared && matches!(self.reach, Reach::Http)
    }

    /// Whether its command is `node` and a file: no wrapper, no flag, nothing loaded before it.
    pub(crate) fn is_run_by_node_alone(&self) -> bool {
        matches!(self.command, ["node", file] if !file.starts_with('-'))
    }
}

const fn http(name: &'static str, command: &'static [&'static str], answers: &'static str) -> App {
    App { name, command, answers, reach: Reach::Http, expect: Expect::Shared }
}

const fn reached(app: App, reach: Reach) -> App {
    App { reach, ..app }
}

const fn expecting(app: App, expect: Expect) -> App {
    App { expect, ..app }
}

const OPENTELEMETRY: &str = "@opentelemetry/auto-instrumentations-node/register";

pub(crate) const NODE: &[App] = &[
    http("http", &["node", "apps/http.js"], "http"),
    http("esm", &["node", "apps/esm.mjs"], "esm"),
    http("express", &["node", "apps/express.js"], "express"),
    http("fastify", &["node", "apps/fastify.js"], "fastify"),
    http("koa", &["node", "apps/koa.js"], "koa"),
    http("hono", &["node", "apps/hono.mjs"], "hono"),
    reached(http("ws", &["node", "apps/ws.js"], "ws"), Reach::Client("ws")),
    reached(http("https", &["node", "apps/https.js"], "https"), Reach::Client("https")),
    reached(http("http2", &["node", "apps/http2.js"], "http2"), Reach::Client("http2")),
    reached(http("h2c", &["node", "apps/h2c.js"], "h2c"), Reach::Client("h2c")),
    reached(http("two_servers", &["node", "apps/two.js"], "two"), Reach::TwoPorts),
    reached(http("listen_0", &["node", "apps/listen0.js"], "listen0"), Reach::PrintedPort),
    reached(http("unix_path", &["node", "apps/unix.js"], "unix"), Reach::UnixPath),
    reached(http("udp", &["node", "apps/udp.js"], "udp"), Reach::Udp),
    reached(
        http("port_in_use", &["node", "apps/portinuse.js"], "portinuse"),
        Reach::HttpWith("error", "EADDRINUSE"),
    ),
    expecting(http("exclusive", &["node", "apps/exclusive.js"], "exclusive"), Expect::Bypass),
    expecting(
        http("reuse_port", &["node", "apps/reuseport.js"], "reuseport"),
        Expect::BypassFrom(22),
    ),
    expecting(
        http("worker_thread", &["node", "apps/worker-thread.js"], "worker-thread"),
        Expect::Bypass,
    ),
    http("tsx", &["tsx", "apps/app.ts"], "ts"),
    reached(
        http("cross_env", &["cross-env", "FIXTURE_SET=cross-env", "node", "apps/http.js"], "http"),
        Reach::HttpWith("set", "cross-env"),
    ),
    reached(
        http("dotenv_cli", &["dotenv", "-e", "settings.env", "--", "node", "apps/http.js"], "http"),
        Reach::HttpWith("set", "dotenv"),
    ),
    http("nodemon", &["nodemon", "--quiet", "apps/http.js"], "http"),
    http("node_watch", &["node", "--watch", "apps/http.js"], "http"),
    http("own_cluster", &["node", "apps/own-cluster.js"], "own-cluster"),
    http("own_cluster_esm", &["node", "apps/own-cluster.mjs"], "own-cluster"),
    http("opentelemetry", &["node", "--require", OPENTELEMETRY, "apps/http.js"], "http"),
    http("permission", &["node", "--permission", "--allow-fs-read=*", "apps/http.js"], "http"),
];

pub(crate) const DENO: &[App] = &[
    http("http", &["deno", "run", "-A", "--no-lock", "apps/http.js"], "http"),
    http("esm", &["deno", "run", "-A", "--no-lock", "apps/esm.mjs"], "esm"),
];
