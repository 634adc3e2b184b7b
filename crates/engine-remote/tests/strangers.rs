//! Another user of the machine does not get in, however open the folder is.
//!
//! Only root can play another user, so elsewhere this says so and passes.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test")]

use nix::unistd::geteuid;
use outrigger_engine_remote::{Place, Remote, Server, ShareError};
use outrigger_kernel::World;
use outrigger_keyspace::memory::Memory;
use outrigger_sim::SimWorld;
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

const DIR: &str = "OUTRIGGER_STRANGE_DIR";
const NOBODY: u32 = 65_534;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
#[ignore = "the child of the other test"]
fn strange_child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    runtime().block_on(async {
        let world: Arc<dyn World> = SimWorld::new(1);
        let refused = Remote::connect(Path::new(&dir), world).await;
        println!("told {}", refused.is_err_and(|e| matches!(e, ShareError::Stranger { uid: 0 })));
        // A client that does not look who it is talking to.
        let stream = Place::new(&Path::new(&dir).join("socket")).connect().await.unwrap();
        stream.readable().await.unwrap();
        println!("hung up on {}", matches!(stream.try_read(&mut [0; 100]), Ok(0)));
    });
}

#[test]
fn another_user_is_hung_up_on() {
    if !geteuid().is_root() {
        return println!("only root can be somebody else: nothing was tested");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("child");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let runtime = runtime();
    let _inside = runtime.enter();
    let world: Arc<dyn World> = SimWorld::new(2);
    let listener = Place::new(&folder.path().join("socket")).listen().unwrap();
    let server = Server::new(Memory::new(world.clone()), world.clone());
    drop(world.spawn("server", Box::pin(async move { server.accept(&listener).await })));
    // As open as can be.
    for (path, mode) in [("", 0o777), ("socket", 0o777), ("child", 0o755)] {
        fs::set_permissions(folder.path().join(path), Permissions::from_mode(mode)).unwrap();
    }
    let output = Command::new(program)
        .args(["strange_child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, folder.path())
        .current_dir("/")
        .uid(NOBODY)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("told true") && output.contains("hung up on true"), "{output}");
}
