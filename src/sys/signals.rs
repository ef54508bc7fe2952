//! Makes this process deaf to signals, for the guardian.

use std::io;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Ignores each of `signals` from now on, in this whole process.
///
/// # Errors
/// EINVAL for KILL and STOP, which cannot be ignored.
pub fn ignore(signals: &[Signal]) -> io::Result<()> {
    for &number in signals {
        // SAFETY: SIG_IGN installs no code that could run at a bad moment.
        unsafe { signal(number, SigHandler::SigIgn) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn an_ignored_signal_does_nothing() {
        ignore(&[Signal::SIGUSR1]).expect("may be ignored");
        // Its default action would end the test run.
        raise(Signal::SIGUSR1).expect("our own thread");
        let error = ignore(&[Signal::SIGKILL]).expect_err("may not be ignored");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
