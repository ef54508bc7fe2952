//! What `tenfold events --json` shows of a pool, to wait on.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;
use super::output::{Output, Stream};

/// A running `tenfold events`; it ends with this.
pub(crate) struct Events {
    child: Child,
    output: Arc<Output>,
}

impl Events {
    /// Takes over a started child whose streams are piped, and waits until it is connected.
    #[track_caller]
    pub(super) fn follow(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary under test starts");
        let output = Arc::new(Output::default());
        output.follow(Stream::Stdout, child.stdout.take().expect("it is piped"));
        output.follow(Stream::Stderr, child.stderr.take().expect("it is piped"));
        let events = Self { child, output };
        events.wait("connected", |_| true);
        events
    }

    /// Waits for an event of this name that is `wanted`, among all since the connection.
    #[track_caller]
    pub(crate) fn wait(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(PATIENCE, name, wanted)
    }

    #[track_caller]
    fn wait_for(&self, bound: Duration, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = self.output.wait(bound, |seen| {
            let lines = seen.lines.iter().filter(|(stream, _)| *stream == Stream::Stdout);
            let mut events = lines.filter_map(|(_, line)| serde_json::from_str(line).ok());
            events.find(|event: &Value| event["event"] == name && wanted(event))
        });
        found.unwrap_or_else(|| panic!("no such {name} in\n{}", self.output.both()))
    }

    /// The names of all events so far, in order.
    pub(crate) fn all(&self) -> Vec<Value> {
        let text = self.output.text(Stream::Stdout);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for its own end; its exit code.
    #[track_caller]
    pub(crate) fn wait_end(mut self) -> (Option<i32>, Vec<Value>) {
        let ended = self.output.wait(PATIENCE, |seen| (seen.open_pipes == 0).then_some(()));
        assert!(ended.is_some(), "it goes on:\n{}", self.output.both());
        let code = self.child.wait().expect("it is our child").code();
        (code, self.all())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
