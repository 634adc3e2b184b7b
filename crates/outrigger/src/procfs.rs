//! Who listens where, asked of Linux's `/proc`.
//!
//! Two questions of people who start things: "which process holds the port I wanted?" and "on which port did the app I
//! started begin to listen?". Where there is no `/proc` both have no answer, and the callers get along without.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    io::Read,
};

/// Room for some fifty children's numbers.
const CHILDREN_BYTES: usize = 512;

/// A process that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: i32,
    /// Its name, as `ps` shows it.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// The process that listens on `port`, when it can be found (other users' processes often cannot).
#[must_use]
pub fn holder(port: u16) -> Option<Holder> {
    let listeners = listeners();
    let wanted: BTreeSet<u64> =
        listeners.into_iter().filter(|(_, at)| *at == port).map(|(inode, _)| inode).collect();
    if wanted.is_empty() {
        return None;
    }
    let pid = pids().find(|pid| !sockets(*pid).is_disjoint(&wanted))?;
    Some(Holder { pid, name: name(pid) })
}

/// The ports that the process `root` and its descendants listen on, lowest first. Costs a few reads per process of that
/// family, however many others the machine runs.
#[must_use]
pub fn family_ports(root: i32) -> BTreeSet<u16> {
    let owned: BTreeSet<u64> = family(root).into_iter().flat_map(sockets).collect();
    if owned.is_empty() {
        return BTreeSet::new();
    }
    let listeners = listeners();
    owned.iter().filter_map(|inode| listeners.get(inode).copied()).collect()
}

/// What a family looks like from afar: its processes and how many files each has open. Who begins to listen opens one.
#[derive(Debug, PartialEq, Eq)]
pub struct Glimpse(Vec<(i32, u64)>);

/// Looks at the family of `root` from afar, for less than a tenth of what [`family_ports`] costs. Two that are the same say
/// that hardly anything can have changed: children of other threads than a process's first are not seen. `None` where
/// files are not counted (before Linux 6.2) or nobody is there.
#[must_use]
pub fn glimpse(root: i32) -> Option<Glimpse> {
    let (mut seen, mut open) = (Vec::new(), vec![root]);
    while let Some(pid) = open.pop() {
        if seen.iter().any(|(known, _)| *known == pid) {
            continue;
        }
        let files = fs::metadata(format!("/proc/{pid}/fd")).map_or(0, |fd| fd.len());
        seen.push((pid, files));
        open.extend(children(pid));
    }
    seen.iter().any(|(_, files)| *files > 0).then_some(Glimpse(seen))
}

/// The children of a process's first thread.
fn children(pid: i32) -> Vec<i32> {
    let mut text = [0; CHILDREN_BYTES];
    let read = |mut file: File| file.read(&mut text);
    let length = File::open(format!("/proc/{pid}/task/{pid}/children")).and_then(read);
    // More of them than fit are found by whoever looks closely.
    let text = String::from_utf8_lossy(&text[..length.unwrap_or(0)]);
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// `root` and its descendants, as the kernel lists children; without such lists (an unusual kernel) the members of its
/// group.
fn family(root: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        if !found.insert(pid) {
            continue;
        }
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            match fs::read_to_string(thread.path().join("children")) {
                Ok(children) => {
                    open.extend(
                        children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()),
                    );
                }
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && thread.path().exists() =>
                {
                    return pids()
                        .filter(|pid| stat(*pid).is_some_and(|stat| stat.group == root))
                        .collect();
                }
                Err(_) => {}
            }
        }
    }
    found
}

/// Whether the process exists and is not a zombie.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// When the process started, in clock ticks since boot: with its id, a name that is never reused.
#[must_use]
pub fn started(pid: i32) -> Option<u64> {
    stat(pid).map(|stat| stat.started)
}

/// The name of a process, empty when it is gone.
#[must_use]
pub fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

struct Stat {
    state: char,
    group: i32,
    started: u64,
}

/// `pid (name) state ppid pgrp ...`; the name may hold spaces and parentheses, so the fields begin after the last one.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The inodes of the sockets a process holds.
fn sockets(pid: i32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

/// Listening TCP sockets: inode to port.
fn listeners() -> BTreeMap<u64, u16> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(listener).collect()
}

/// One line of `/proc/net/tcp`: `sl local_address rem_address st ... inode`; state 0A is LISTEN.
fn listener(line: &str) -> Option<(u64, u16)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    Some((fields.get(9)?.parse().ok()?, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::{family_ports, glimpse, holder, is_alive, listener, started};
    use std::net::TcpListener;

    #[test]
    fn a_line_of_the_table() {
        let line = "   0: 0100007F:0DAC 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 34567 1";
        assert_eq!(listener(line), Some((34567, 3500)));
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listener("garbage"), None);
    }

    /// In a process that does nothing else, which this one with its tests is not.
    #[test]
    fn a_glimpse_changes_with_a_file_and_with_a_child() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "read go; exec 9</dev/null; read go; sleep 60 & read go"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        let until = |different: &dyn Fn() -> bool| {
            while !different() {
                std::thread::yield_now();
            }
        };
        until(&|| super::name(root) == "sh");
        let first = glimpse(root);
        assert!(first.is_some() || cfg!(not(target_os = "linux")));
        let go = |shell: &mut std::process::Child| {
            use std::io::Write;
            shell.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        };
        go(&mut shell);
        until(&|| glimpse(root) != first);
        // The shell opens the file under one number and moves it to another; then it rests.
        until(&|| super::name(root) == "sh" && (0..200).all(|_| glimpse(root) == glimpse(root)));
        let second = glimpse(root);
        go(&mut shell);
        until(&|| glimpse(root) != second);
        drop(shell.stdin.take());
        for pid in super::family(root) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        shell.wait().unwrap();
        assert_eq!(glimpse(root), None, "nobody is there");
    }

    #[test]
    fn we_hold_our_own_port() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(holder(port).map(|holder| holder.pid), Some(own));
        assert!(family_ports(own).contains(&port));
        // A parent sees what its children listen on; our parent is whoever runs the tests.
        assert!(family_ports(nix::unistd::getppid().as_raw()).contains(&port));
        assert!(is_alive(own) && started(own).is_some());
    }
}
