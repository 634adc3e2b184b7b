//! The disk and its open files as the code under test sees them.

use super::{
    draw,
    state::{Ending, FileId, State},
    survivors::Survivors,
    tape::{Doing, Moment, Step, Tape},
    trouble::{Kind, Trouble, Troubles},
};
use outrigger_kernel::disk::{Disk, DiskFile, Room};
use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A simulated disk. Clones are the same disk; an image taken by [`SimDisk::crash`] or [`SimDisk::kill`] is another.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    state: State,
    tape: Tape,
    troubles: Troubles,
    /// Beginnings of names whose syncs say yes and keep nothing.
    liars: Vec<String>,
    stream: u64,
    dead: bool,
}

struct SimFile {
    disk: SimDisk,
    id: FileId,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        write!(f, "SimDisk({} names, {} steps)", inner.state.names.len(), inner.tape.len())
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.id)
    }
}

impl SimDisk {
    /// An empty disk without bounds; `seed` decides what a failing sync leaves.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = Self::over(State::default(), u64::MAX);
        disk.set_seed(seed);
        disk
    }

    pub(super) fn over(state: State, capacity_bytes: u64) -> Self {
        let tape = Tape { start: state.clone(), steps: Vec::new(), capacity_bytes };
        let troubles = Troubles::default();
        let liars = Vec::new();
        let inner = Inner { state, tape, troubles, liars, stream: 0, dead: false };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides anew what a failing sync leaves and what a read flips.
    pub fn set_seed(&self, seed: u64) {
        self.lock().stream = seed;
    }

    /// Bounds the disk: what goes beyond fails with [`io::ErrorKind::StorageFull`] once the room is used up.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().tape.capacity_bytes = bytes;
    }

    /// Lets `trouble` befall the `nth` operation of `kind` from now on, counted from 0.
    pub fn plan(&self, kind: Kind, nth: u64, trouble: Trouble) {
        let mut inner = self.lock();
        let seen = inner.troubles.seen(kind);
        inner.troubles.plan(kind, seen + nth, trouble);
    }

    /// Lets `trouble` befall every operation of `kind` from the `nth` from now on.
    pub fn plan_from(&self, kind: Kind, nth: u64, trouble: Trouble) {
        let mut inner = self.lock();
        let seen = inner.troubles.seen(kind);
        inner.troubles.plan_from(kind, seen + nth, trouble);
    }

    /// Lets every sync of files whose names begin with `prefix` lie from now on.
    pub fn let_syncs_lie(&self, prefix: &str) {
        self.lock().liars.push(prefix.to_owned());
    }

    /// Forgets every planned trouble.
    pub fn calm(&self) {
        let mut inner = self.lock();
        inner.troubles.forget();
        inner.liars.clear();
    }

    /// From now on every operation fails, as if the disk had been pulled out.
    pub fn pull_out(&self) {
        self.lock().dead = true;
    }

    /// How much room the files take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().state.used_bytes()
    }

    /// How many operations of `kind` there have been.
    #[must_use]
    pub fn seen(&self, kind: Kind) -> u64 {
        self.lock().troubles.seen(kind)
    }

    /// How many steps there have been: whatever changes the disk or makes changes last.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.lock().tape.len()
    }

    /// Every step so far.
    #[must_use]
    pub fn tape(&self) -> Tape {
        self.lock().tape.clone()
    }

    /// This moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        let inner = self.lock();
        Moment::of(inner.tape.len(), inner.state.clone(), inner.tape.capacity_bytes)
    }

    /// The disk after a power cut now.
    #[must_use]
    pub fn crash(&self, survivors: Survivors) -> Self {
        self.now().crash(survivors)
    }

    /// The disk after the end of the process now.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.now().kill()
    }

    /// Turns over one bit of a file at rest (before anything else is done to the image); answers whether there is such a bit.
    pub fn flip(&self, name: &str, at: u64, bit: u8) -> bool {
        let mut inner = self.lock();
        let Some(file) = inner.state.names.get(name).copied() else { return false };
        if at >= inner.state.content(file).length {
            return false;
        }
        inner.state.flip(file, at, bit);
        inner.tape.start.flip(file, at, bit);
        true
    }

    /// Puts bytes over what a file has at rest, as a misdirected write would.
    pub fn overwrite(&self, name: &str, at: u64, bytes: &[u8]) {
        let mut inner = self.lock();
        if let Some(file) = inner.state.names.get(name).copied() {
            inner.state.overwrite(file, bytes, at);
            inner.tape.start.overwrite(file, bytes, at);
        }
    }

    /// What a file holds now.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        let file = inner.state.names.get(name)?;
        Some(inner.state.content(*file).bytes())
    }

    /// One number for all names and bytes that reads see now (FNV-1a).
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let inner = self.lock();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut feed = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (name, file) in &inner.state.names {
            feed(name.as_bytes());
            feed(&inner.state.content(*file).bytes());
        }
        hash
    }

    fn file(&self, id: FileId) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), id })
    }
}

impl Inner {
    /// Counts an operation; fails it or hands over what befalls it.
    fn next(&mut self, kind: Kind) -> io::Result<Option<Trouble>> {
        if self.dead {
            return Err(io::Error::other("the simulated disk was pulled out"));
        }
        match self.troubles.next(kind) {
            Some(Trouble::Fails) => Err(io::Error::other(format!("simulated: {kind:?} failed"))),
            trouble => Ok(trouble),
        }
    }

    fn step(&mut self, doing: Doing) {
        let step = Step(doing);
        step.apply(&mut self.state);
        self.tape.steps.push(step);
    }

    fn find(&self, name: &str) -> io::Result<FileId> {
        let file = self.state.names.get(name).copied();
        file.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no file '{name}'")))
    }

    fn free_bytes(&self) -> u64 {
        self.tape.capacity_bytes.saturating_sub(self.state.used_bytes())
    }

    fn lies(&self, file: FileId) -> bool {
        let mut names = self.state.names.iter().filter(|(_, id)| **id == file);
        names.any(|(name, _)| self.liars.iter().any(|prefix| name.starts_with(prefix)))
    }

    fn sync(&mut self, file: FileId, trouble: Option<Trouble>) -> io::Result<()> {
        let reverted = match trouble {
            None => {
                self.step(Doing::Sync { file, ending: Some(Ending::Kept) });
                return Ok(());
            }
            Some(Trouble::FailsAndForgets) => false,
            Some(Trouble::FailsAndReverts) => true,
            Some(_) => {
                self.step(Doing::Sync { file, ending: None });
                return Ok(());
            }
        };
        let survivors = Survivors::Random { seed: draw(&mut self.stream) };
        let ending = Ending::Forgotten { survivors, reverted };
        self.step(Doing::Sync { file, ending: Some(ending) });
        Err(io::Error::other("simulated: the sync failed"))
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.next(Kind::Look)?;
        let id = inner.find(name)?;
        drop(inner);
        Ok(self.file(id))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.next(Kind::Name)?;
        if inner.find(name).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("'{name}' exists")));
        }
        inner.step(Doing::Create { name: name.to_owned() });
        let id = inner.find(name)?;
        drop(inner);
        Ok(self.file(id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.next(Kind::Name)?;
        let file = inner.find(from)?;
        inner.step(Doing::Name { file, name: Some(to.to_owned()) });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.next(Kind::Name)?;
        let file = inner.find(name)?;
        inner.step(Doing::Name { file, name: None });
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut inner = self.lock();
        inner.next(Kind::Look)?;
        Ok(inner.state.names.keys().cloned().collect())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut inner = self.lock();
        let kept = inner.next(Kind::SyncFolder)?.is_none();
        inner.step(Doing::SyncFolder { kept });
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        let mut inner = self.lock();
        inner.next(Kind::Look)?;
        let total_bytes = inner.tape.capacity_bytes;
        Ok(Room { free_bytes: inner.free_bytes(), total_bytes })
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let trouble = inner.next(Kind::Read)?;
        let content = inner.state.content(self.id);
        if at.checked_add(buffer.len() as u64).is_none_or(|end| end > content.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        content.read(buffer, at);
        if trouble == Some(Trouble::Flips) && !buffer.is_empty() {
            let number = draw(&mut inner.stream);
            let place = super::content::index(number % buffer.len() as u64);
            buffer[place] ^= 1 << (number >> 61);
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let trouble = inner.next(Kind::Write)?;
        let mut fits = bytes.len();
        let mut error = None;
        if let Some(Trouble::Stops(after)) = trouble {
            fits = fits.min(after);
            error = Some(io::Error::other("simulated: the write stopped"));
        }
        while inner.state.content(self.id).missing_bytes(fits, at) > inner.free_bytes() {
            fits = fits.saturating_sub(super::PAGE_BYTES);
            error = Some(io::ErrorKind::StorageFull.into());
        }
        if fits > 0 {
            inner.step(Doing::Write { file: self.id, at, bytes: bytes[..fits].into() });
        }
        error.map_or(Ok(()), Err)
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let trouble = inner.next(Kind::Sync)?;
        let trouble = if inner.lies(self.id) { Some(Trouble::Lies) } else { trouble };
        inner.sync(self.id, trouble)
    }

    fn length(&self) -> io::Result<u64> {
        let mut inner = self.disk.lock();
        inner.next(Kind::Look)?;
        Ok(inner.state.content(self.id).length)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.next(Kind::SetLength)?;
        inner.step(Doing::SetLength { file: self.id, length: bytes });
        Ok(())
    }
}
