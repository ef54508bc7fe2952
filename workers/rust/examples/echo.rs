//! Sends every byte back: plain TCP, one thread per connection.
//!
//! Alone, on port 3000: `cargo run --example echo`. Four of it behind one socket:
//! `tenfold -n 4 --listen :3000 --dialect native -- target/debug/examples/echo`
//!
//! An argument replaces the address; `MAX_CONNECTIONS` bounds what one process takes at once.

use std::io::{self, Read, Write};
use std::time::Duration;
use std::{env, thread};

use tenfold_worker::{Connection, Server};

/// A client that is silent for so long is let go: the master does not watch it for us.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// After drain, open connections get so long to end by themselves.
const GRACE: Duration = Duration::from_secs(20);

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let mut server = Server::bind_or_receive(address)?;
    if let Ok(max) = env::var("MAX_CONNECTIONS") {
        let max = max.parse().map_err(|_| io::Error::other("MAX_CONNECTIONS: not a number"))?;
        server = server.max_connections(max);
    }
    if let Some(address) = server.local_addr() {
        eprintln!("listening on {address}");
    }
    while let Some(connection) = server.accept()? {
        // The thread ends with its client; `finish` waits for all of them through their counts.
        drop(thread::spawn(move || echo(connection)));
    }
    server.finish(GRACE).map(drop)
}

/// A client that breaks off is its own business, so the error ends here.
fn echo(mut connection: Connection) -> io::Result<()> {
    connection.stream().set_timeout(Some(SILENCE_MAX))?;
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = connection.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let _active = connection.begin();
        connection.write_all(&buffer[..count])?;
    }
}
