//! The candidates behind one small trait: a sorted batch in one durable step, gets, the first row of a range.

use crate::{
    disk::FolderDisk,
    index::{Checkpoint, Index, IndexError, IndexOptions},
    layer::{Cell, Key},
};
use outrigger_kernel::{Wall, disk::Disk};
use outrigger_keyspace::{Committed, Direction, KeyRange, Value};
use std::{path::Path, sync::Arc};

/// One row of a batch: `None` removes the key.
pub type Row = (Vec<u8>, Option<Vec<u8>>);
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub trait Engine: Send + Sync {
    /// Applies `rows` (sorted, each key once) durably.
    fn apply(&self, rows: &[Row]) -> Outcome<()>;
    fn get(&self, key: &[u8]) -> Outcome<Option<Vec<u8>>>;
    fn first(&self, from: &[u8]) -> Outcome<Option<Vec<u8>>>;
    /// Removes `[from, to)` durably.
    fn clear(&self, from: &[u8], to: &[u8]) -> Outcome<()>;
    /// Waits for background work, and gives back what can be.
    fn settle(&mut self) -> Outcome<()>;
}

pub fn open(name: &str, folder: &Path, cache: usize) -> Outcome<Box<dyn Engine>> {
    std::fs::create_dir_all(folder)?;
    Ok(match name {
        "redb" => Box::new(Redb::open(folder, cache)?),
        "fjall" => Box::new(Fjall::open(folder, cache)?),
        "canopydb" => Box::new(Canopy::open(folder, cache)?),
        "own" => Box::new(Own::open(folder, cache)?),
        other => return Err(format!("no engine {other}").into()),
    })
}

const ROWS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("rows");

struct Redb(redb::Database);

impl Redb {
    fn open(folder: &Path, cache: usize) -> Outcome<Self> {
        let database = redb::Builder::new().set_cache_size(cache).create(folder.join("index"))?;
        let write = database.begin_write()?;
        write.open_table(ROWS)?;
        write.commit()?;
        Ok(Self(database))
    }

    fn write(&self, body: impl FnOnce(&mut redb::Table<'_, &[u8], &[u8]>) -> Outcome<()>) -> Outcome<()> {
        let mut write = self.0.begin_write()?;
        write.set_quick_repair(true);
        {
            let mut table = write.open_table(ROWS)?;
            body(&mut table)?;
        }
        write.commit()?;
        Ok(())
    }
}

impl Engine for Redb {
    fn apply(&self, rows: &[Row]) -> Outcome<()> {
        self.write(|table| {
            for (key, value) in rows {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
            Ok(())
        })
    }

    fn get(&self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        use redb::ReadableDatabase;
        let read = self.0.begin_read()?;
        let table = read.open_table(ROWS)?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn first(&self, from: &[u8]) -> Outcome<Option<Vec<u8>>> {
        use redb::ReadableDatabase;
        let read = self.0.begin_read()?;
        let table = read.open_table(ROWS)?;
        let first = table.range(from..)?.next().transpose()?;
        Ok(first.map(|(key, _)| key.value().to_vec()))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        self.write(|table| Ok(table.retain_in(from..to, |_, _| false)?))
    }

    fn settle(&mut self) -> Outcome<()> {
        self.0.compact()?;
        Ok(())
    }
}

struct Fjall {
    database: fjall::Database,
    rows: fjall::Keyspace,
}

impl Fjall {
    fn open(folder: &Path, cache: usize) -> Outcome<Self> {
        let database = fjall::Database::builder(folder)
            .cache_size(cache as u64)
            .manual_journal_persist(true)
            .worker_threads(1)
            .open()?;
        let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default)?;
        Ok(Self { database, rows })
    }
}

impl Engine for Fjall {
    /// As a table written straight from the sorted batch, without the library's journal.
    fn apply(&self, rows: &[Row]) -> Outcome<()> {
        let mut ingestion = self.rows.start_ingestion()?;
        for (key, value) in rows {
            match value {
                Some(value) => ingestion.write(key.as_slice(), value.as_slice())?,
                None => ingestion.write_tombstone(key.as_slice())?,
            }
        }
        Ok(ingestion.finish()?)
    }

    fn get(&self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Ok(self.rows.get(key)?.map(|value| value.to_vec()))
    }

    fn first(&self, from: &[u8]) -> Outcome<Option<Vec<u8>>> {
        match self.rows.range(from..).next() {
            Some(guard) => Ok(Some(guard.key()?.to_vec())),
            None => Ok(None),
        }
    }

    /// It has no deletion of a range: the keys are listed and removed one by one.
    fn clear(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        let mut rows = Vec::new();
        for guard in self.rows.range(from..to) {
            rows.push((guard.key()?.to_vec(), None));
        }
        self.apply(&rows)
    }

    fn settle(&mut self) -> Outcome<()> {
        let mut quiet = 0;
        while quiet < 10 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            quiet = if self.database.active_compactions() == 0 { quiet + 1 } else { 0 };
        }
        Ok(())
    }
}

struct Canopy(canopydb::Database);

impl Canopy {
    fn open(folder: &Path, cache: usize) -> Outcome<Self> {
        let mut environment = canopydb::EnvOptions::new(folder);
        environment.page_cache_size = cache;
        environment.use_checksums = true;
        let mut options = canopydb::DbOptions::new();
        options.use_wal = false;
        Ok(Self(canopydb::Database::with_options(environment, options)?))
    }
}

impl Engine for Canopy {
    fn apply(&self, rows: &[Row]) -> Outcome<()> {
        let write = self.0.begin_write()?;
        {
            let mut tree = write.get_or_create_tree(b"rows")?;
            for (key, value) in rows {
                match value {
                    Some(value) => tree.insert(key, value)?,
                    None => drop(tree.delete(key)?),
                }
            }
        }
        write.commit()?;
        Ok(self.0.checkpoint()?)
    }

    fn get(&self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let read = self.0.begin_read()?;
        let Some(tree) = read.get_tree(b"rows")? else { return Ok(None) };
        Ok(tree.get(key)?.map(|value| value.to_vec()))
    }

    fn first(&self, from: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let read = self.0.begin_read()?;
        let Some(tree) = read.get_tree(b"rows")? else { return Ok(None) };
        let first = tree.range(from.to_vec()..)?.next().transpose()?;
        Ok(first.map(|(key, _)| key.to_vec()))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        let write = self.0.begin_write()?;
        {
            let mut tree = write.get_or_create_tree(b"rows")?;
            tree.delete_range(from.to_vec()..to.to_vec())?;
        }
        write.commit()?;
        Ok(self.0.checkpoint()?)
    }

    fn settle(&mut self) -> Outcome<()> {
        Ok(self.0.compact()?)
    }
}

/// Our own runs. Merging belongs to a batch here, as it does with the others.
struct Own(Index);

impl Own {
    fn open(folder: &Path, cache: usize) -> Outcome<Self> {
        let disk: Arc<dyn Disk> = Arc::new(FolderDisk::open(folder)?);
        let options = IndexOptions { cache_bytes: cache, layer_bytes: 24 << 20 };
        let index = match Index::open(disk.clone(), options.clone()) {
            Err(IndexError::Missing) => Index::create(disk, options, checkpoint())?,
            opened => opened?,
        };
        Ok(Self(index))
    }

    fn take(&self, cells: &[(Key, Cell)]) -> Outcome<()> {
        let cells = cells.iter().map(|(key, cell)| (key, cell));
        self.0.apply(cells, checkpoint(), &mut |_| ())?;
        while self.0.maintain(&mut |_| ())? {}
        Ok(())
    }
}

fn checkpoint() -> Checkpoint {
    let committed = Committed { revision: 1, time: Wall(1) };
    Checkpoint { committed, log: crate::log::Position::default(), ids: Vec::new() }
}

impl Engine for Own {
    fn apply(&self, rows: &[Row]) -> Outcome<()> {
        let cell = |(key, value): &Row| {
            let cell = match value {
                Some(bytes) => {
                    let bytes = bytes::Bytes::copy_from_slice(bytes);
                    Cell::Live(Arc::new(Value { bytes, revision: 1, expires_at: None }))
                }
                None => {
                    let mut end = key.clone();
                    end.push(0);
                    Cell::Gone { end: Some(Key::from(end)) }
                }
            };
            (Key::from(&key[..]), cell)
        };
        self.take(&rows.iter().map(cell).collect::<Vec<_>>())
    }

    fn get(&self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Ok(self.0.view().get(key)?.map(|value| value.bytes.to_vec()))
    }

    fn first(&self, from: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let range = KeyRange { start: bytes::Bytes::copy_from_slice(from), end: None };
        let first = self.0.view().range(&range, Direction::Forward).next().transpose()?;
        Ok(first.map(|(key, _)| key.to_vec()))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        self.take(&[(Key::from(from), Cell::Gone { end: Some(Key::from(to)) })])
    }

    fn settle(&mut self) -> Outcome<()> {
        while self.0.maintain(&mut |_| ())? {}
        Ok(())
    }
}
