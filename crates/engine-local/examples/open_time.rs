//! How long does it take to open a folder for the first time, and how long when there is a store in it?
//!
//! ```text
//! cargo run -p outrigger-engine-local --example open_time -- [folder] [times]
//! strace -f -c -e trace=fsync,fdatasync target/debug/examples/open_time . 1
//! ```
//!
//! The time goes by the disk and by who else uses it; the number of syncs does not.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use outrigger_engine_local::{Local, Options};
use outrigger_kernel::World;
use outrigger_sim::SimWorld;
use std::{error::Error, path::PathBuf};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let times: u32 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let dir = folder.join(format!("open-time-{}", std::process::id()));
    let world = SimWorld::new(1);
    for _ in 0..times {
        let mut took_ms = Vec::new();
        for _ in 0..2 {
            let began = world.mono();
            let engine = Local::open(&dir, world.clone(), Options::default())?;
            took_ms.push(world.mono().since(began).as_millis());
            engine.close().await;
        }
        println!("new and again, in ms: {took_ms:?}");
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}
