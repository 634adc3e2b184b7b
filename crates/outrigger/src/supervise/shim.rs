//! The moment between fork and exec, without unsafe code.
//!
//! "Send me SIGTERM when my parent dies" can only be said by the child itself, after the fork. Saying it in a hook of the
//! parent would need unsafe code, so the child is this binary first: it says it, and becomes the command.

use nix::sys::{prctl, signal::Signal};
use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

/// The hidden first argument that makes this binary the shim: `outrigger @exec PARENT-PID COMMAND ARG...`.
pub const SHIM: &str = "@exec";

/// Becomes the command. Returns only when it could not, with the exit code of a shell: 126 or 127.
#[must_use]
pub fn exec(arguments: &[OsString]) -> u8 {
    let [parent, program, rest @ ..] = arguments else {
        return 126;
    };
    if prctl::set_pdeathsig(Signal::SIGTERM).is_err() {
        return 126;
    }
    // The parent may have died before the line above: then nobody would ever send the signal.
    let expected = parent.to_str().and_then(|text| text.parse::<i32>().ok());
    if expected != Some(nix::unistd::getppid().as_raw()) {
        return 126;
    }
    // The runtime declines huge pages, and a process hands that on to its children. An app is to find the machine as it is.
    let _ = prctl::set_thp_disable(false);
    let error = Command::new(program).args(rest).exec();
    eprintln!("{}: {error}", program.to_string_lossy());
    if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
}
