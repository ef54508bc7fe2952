//! A closed loop over connections that are there before it begins: each asks again as soon as it
//! was answered.
//!
//! wrk connects and asks at once. Node accepts one connection in a turn of its event loop, and
//! while it makes large pages a turn takes long: most of wrk's connections would not be accepted
//! before the window ends, and their number would mean nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet};

use super::client::Connection;
use crate::wrk::Counts;

/// Connections of one source address: far fewer than it has ports.
const PER_ADDRESS: u32 = 250;

/// Open connections, of which each has carried a request.
#[derive(Debug)]
pub(crate) struct Crowd {
    connections: Vec<Connection>,
}

impl Crowd {
    /// Connects so many times from addresses of 127.`net`, and asks for `/` on each.
    pub(crate) async fn gather(target: SocketAddr, count: u32, net: u8) -> Self {
        let mut connections = Vec::new();
        for number in 0..count {
            let host = u8::try_from(number / PER_ADDRESS + 1).unwrap_or(u8::MAX);
            let source = Ipv4Addr::new(127, net, 0, host);
            if let Ok(mut connection) = Connection::open(source, target).await
                && connection.exchange(&request("/")).await.is_ok_and(|answer| answer.reusable)
            {
                connections.push(connection);
            }
        }
        Self { connections }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Asks for `path` on all of them for as long as the window lasts; what is not answered then is
    /// left. A connection that fails asks no more.
    pub(crate) async fn ask(self, path: &str, window: Duration) -> Counts {
        let request = request(path);
        let deadline = tokio::time::Instant::from_std(tenfold::clock::now() + window);
        let local = LocalSet::new();
        let mut tasks = JoinSet::new();
        for mut connection in self.connections {
            let request = request.clone();
            let all = async move {
                let mut answered = 0;
                loop {
                    let exchange = connection.exchange(&request);
                    match tokio::time::timeout_at(deadline, exchange).await {
                        Ok(Ok(answer)) if answer.status == 200 && answer.reusable => answered += 1,
                        Ok(Ok(_) | Err(_)) => return (answered, 1),
                        Err(_) => return (answered, 0),
                    }
                }
            };
            tasks.spawn_local_on(all, &local);
        }
        let done: Vec<(u64, u64)> = local.run_until(tasks.join_all()).await;
        let requests = done.iter().map(|(answered, _)| answered).sum();
        let failed = done.iter().map(|(_, failed)| failed).sum();
        Counts { requests, rate: requests as f64 / window.as_secs_f64(), failed, refused: 0 }
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes()
}
