//! The app asks the runtime to end.

use super::{Exchange, Reply};
use crate::{host::Shutdown, names};

pub(super) fn shutdown(x: &Exchange<'_>) -> Reply {
    let force = x.parts.headers.get(names::FORCE_SHUTDOWN);
    let force = force.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    x.host.shut_down(if force { Shutdown::Force } else { Shutdown::Graceful });
    Reply::empty()
}
