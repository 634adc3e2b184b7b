//! The bytes of one file: pages shared between copies, holes for what was never written.

use super::PAGE_BYTES;
use std::sync::Arc;

type Page = [u8; PAGE_BYTES];

/// Cheap to copy: a copy shares every page until one of the two writes to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: Vec<Option<Arc<Page>>>,
    pub(super) length: u64,
}

impl Content {
    pub(super) const fn empty() -> Self {
        Self { pages: Vec::new(), length: 0 }
    }

    /// Copies what is at `at` into `buffer`; beyond the last page there are zeros.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64) {
        for (piece, page, start) in pieces(buffer.len(), at) {
            let target = &mut buffer[piece];
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(page) => target.copy_from_slice(&page[start..start + target.len()]),
                None => target.fill(0),
            }
        }
    }

    /// Puts `bytes` at `at` and leaves the length alone.
    pub(super) fn put(&mut self, bytes: &[u8], at: u64) {
        for (piece, page, start) in pieces(bytes.len(), at) {
            if self.pages.len() <= page {
                self.pages.resize(page + 1, None);
            }
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            let source = &bytes[piece];
            Arc::make_mut(page)[start..start + source.len()].copy_from_slice(source);
        }
    }

    /// Cuts or grows to `length`; what comes after a cut is zero when the file grows again.
    pub(super) fn set_length(&mut self, length: u64) {
        self.length = self.length.max(length);
        self.cut(length);
        self.length = length;
    }

    /// Zeros everything from `from` on.
    pub(super) fn cut(&mut self, from: u64) {
        let page = index(from / PAGE_BYTES as u64);
        let start = index(from % PAGE_BYTES as u64);
        self.pages.truncate(if start == 0 { page } else { page + 1 });
        if let Some(Some(page)) = self.pages.get_mut(page) {
            Arc::make_mut(page)[start..].fill(0);
        }
    }

    /// How many bytes of the disk it takes.
    pub(super) fn allocated_bytes(&self) -> u64 {
        let pages = self.pages.iter().flatten().count();
        pages as u64 * PAGE_BYTES as u64
    }

    /// How many more bytes of the disk a write of `length` bytes at `at` would take.
    pub(super) fn missing_bytes(&self, length: usize, at: u64) -> u64 {
        let absent = |page: usize| self.pages.get(page).is_none_or(Option::is_none);
        let missing = pieces(length, at).filter(|(_, page, _)| absent(*page)).count();
        missing as u64 * PAGE_BYTES as u64
    }

    /// All bytes up to the length.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; index(self.length)];
        self.read(&mut bytes, 0);
        bytes
    }
}

/// The parts of `length` bytes at `at`, page by page: where in the bytes, which page, where in the page.
fn pieces(length: usize, at: u64) -> impl Iterator<Item = (std::ops::Range<usize>, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let here = at + done as u64;
        let start = index(here % PAGE_BYTES as u64);
        let size = (PAGE_BYTES - start).min(length - done);
        let piece = (done..done + size, index(here / PAGE_BYTES as u64), start);
        done += size;
        Some(piece)
    })
}

/// A simulated file fits into memory, and so does an index into it.
pub(super) fn index(number: u64) -> usize {
    usize::try_from(number).expect("a simulated file fits into memory")
}
