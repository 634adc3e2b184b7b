//! Power cuts on a file system of its own: an ext4 on a device that can be copied in one instant.
//!
//! ```text
//!   outer   a file, mounted as XFS, because XFS copies a file by reference at one moment
//!     disk    a file on it, mounted as ext4: here the binary runs under load
//!     cut     disk, copied by reference while all goes on: what a power cut at that moment would have left
//!               mounted as ext4 (the journal is played back), a second binary is started on it, and judged
//! ```
//!
//! Every write that the device had completed is in the copy and nothing else, so what was answered before the copy began
//! must be there, and what was under way may be. The obvious other way, the shutdown ioctl of ext4 and XFS under the
//! running process, was tried and is no judge: a bare loop that appends and syncs loses acknowledged appends to it (3 in
//! 60 rounds), because a sync that races with the shutdown may answer yes; to copies it lost none in 120.
//!
//! It needs root, loop devices, and XFS in the kernel. A machine without them cannot do it, and the short form says so.

use super::{Summary, asked, load::Bout, sidecar, toss};
use anyhow::{Context, Result, ensure};
use outrigger_tests::{
    Folder,
    patience::{Patience, Stopwatch},
    tools,
};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A disk that can be copied in an instant.
struct Island {
    home: Folder,
    mounted: Vec<PathBuf>,
}

impl Island {
    fn new() -> Result<Self> {
        let mut island = Self { home: Folder::new("island")?, mounted: Vec::new() };
        let outer = island.home.join("outer");
        std::fs::File::create(&outer)?.set_len(4 << 30)?;
        run("mkfs.xfs", &["-q", "-m", "reflink=1", &outer.to_string_lossy()])
            .context("a power cut needs mkfs.xfs: apt-get install xfsprogs")?;
        island.mount(&outer, "sea")?;
        let disk = island.disk();
        std::fs::File::create(&disk)?.set_len(1 << 30)?;
        run("mkfs.ext4", &["-q", "-F", &disk.to_string_lossy()])?;
        island.mount(&disk, "disk")?;
        Ok(island)
    }

    fn disk(&self) -> PathBuf {
        self.home.join("sea/disk")
    }

    fn mount(&mut self, image: &Path, name: &str) -> Result<PathBuf> {
        let mounted = self.home.join(name);
        std::fs::create_dir_all(&mounted)?;
        run("mount", &["-o", "loop", &image.to_string_lossy(), &mounted.to_string_lossy()])?;
        self.mounted.push(mounted.clone());
        Ok(mounted)
    }

    /// What a power cut now would leave.
    fn cut(&self) -> Result<PathBuf> {
        let cut = self.home.join("sea/cut");
        let (disk, copy) = (self.disk(), cut.to_string_lossy());
        run("cp", &["--reflink=always", &disk.to_string_lossy(), &copy])?;
        Ok(cut)
    }

    fn unmount(&mut self, mounted: &Path) -> Result<()> {
        let patience = Patience::of(Duration::from_secs(10));
        loop {
            let done = run("umount", &[&mounted.to_string_lossy()]);
            if done.is_ok() || patience.is_over() {
                self.mounted.retain(|other| other != mounted);
                return done;
            }
            patience.pause();
        }
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        for mounted in std::mem::take(&mut self.mounted).iter().rev() {
            drop(run("umount", &["-l", &mounted.to_string_lossy()]));
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {complaint}");
    Ok(())
}

/// Why this machine cannot do it, if so.
fn obstacle() -> Option<&'static str> {
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !tools::is_root() {
        Some("mounting needs root")
    } else if !Path::new("/dev/loop-control").exists() {
        Some("the kernel has no loop devices")
    } else if !filesystems.lines().any(|line| line.trim() == "xfs") {
        Some("the kernel has no XFS, whose copies are instants")
    } else {
        None
    }
}

fn cut_again_and_again(cuts: usize) -> Result<Summary> {
    let mut island = Island::new()?;
    let mut summary = Summary::default();
    let node = sidecar(&island.home.join("disk/data"), None).ready()?;
    let mut before: Option<Bout> = None;
    while summary.kills < cuts {
        // Lists of its own for every cut, and no load while it is judged: what is read grows with the square of the time.
        let bout = Bout::new(&[node.ports.http], summary.kills)?;
        let (cut, moment) = bout.under_load(|| {
            std::thread::sleep(Duration::from_millis(50 + toss(300)));
            let begun = bout.tick();
            let cut = island.cut()?;
            let moment = begun..bout.tick();
            std::thread::sleep(Duration::from_millis(toss(50)));
            Ok((cut, moment))
        })?;
        one(&mut island, &cut, moment, (&bout, before.as_ref()), &mut summary)
            .with_context(|| format!("power cut {}", summary.kills))?;
        summary.figures.add(bout.judge()?);
        before = Some(bout);
        if summary.kills.is_multiple_of(100) && summary.kills < cuts {
            summary.say("power cuts so far");
        }
    }
    node.assert_calm();
    drop(node);
    Ok(summary)
}

/// One cut: what it left is started, asked and thrown away. It was made at `moment` of the first bout; the second one was
/// over by then.
fn one(
    island: &mut Island,
    cut: &Path,
    moment: Range<u64>,
    (during, before): (&Bout, Option<&Bout>),
    summary: &mut Summary,
) -> Result<()> {
    let mounted = island.mount(cut, "cut")?;
    let watch = Stopwatch::start();
    let node = sidecar(&mounted.join("data"), None).ready()?;
    summary.starts.push(watch.elapsed());
    summary.kills += 1;
    during.judge_cut(moment, node.ports.http)?;
    if let Some(before) = before {
        before.judge_later(node.ports.http)?;
    }
    node.assert_calm();
    drop(node);
    island.unmount(&mounted)?;
    Ok(std::fs::remove_file(cut)?)
}

#[test]
#[expect(clippy::print_stdout, reason = "a machine that cannot do it says so")]
fn ten_power_cuts_lose_nothing() -> Result<()> {
    if let Some(obstacle) = obstacle() {
        println!("no power was cut on this machine: {obstacle}");
        return Ok(());
    }
    let mut summary = cut_again_and_again(10)?;
    ensure!(summary.figures.committed > 100, "too little was under way: {summary:?}");
    summary.say("power cuts");
    Ok(())
}

#[test]
#[ignore = "many minutes: `cargo xtask torture`"]
fn many_power_cuts_lose_nothing() -> Result<()> {
    let obstacle = obstacle();
    ensure!(obstacle.is_none(), "this machine cannot: {}", obstacle.unwrap_or_default());
    let mut summary = cut_again_and_again(asked("OUTRIGGER_CUTS", 200))?;
    summary.say("power cuts");
    Ok(())
}
