//! A transaction ends by its deadline, whatever takes long in it.

use super::{Space, TransactError, Tx};
use crate::{ReadError, memory::Memory};
use outrigger_kernel::{Deadline, World};
use outrigger_sim::SimWorld;
use std::{convert::Infallible, time::Duration};

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_too_long_writes_nothing() {
    let world = SimWorld::new(1);
    let space = Space::new(Memory::new(world.clone()), world.clone());
    let deadline = Deadline::after(&*world, Duration::from_secs(1));
    let body = |tx: Tx| {
        let asleep = world.sleep(Duration::from_secs(60));
        async move {
            tx.write(crate::Write::Delete { key: "k".into() });
            asleep.await;
            Ok::<_, TransactError<Infallible>>(())
        }
    };
    let refused = space.transact(deadline, body).await.unwrap_err();
    assert!(matches!(refused, TransactError::Read(ReadError::Unavailable(_))), "{refused}");
    assert_eq!(world.mono(), deadline.0);
    assert_eq!(space.engine().status().revision, 0);
}
