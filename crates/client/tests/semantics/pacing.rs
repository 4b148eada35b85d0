//! How far a service is ahead of the reader of its stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt as _, stream};
use gsb_client::{Call, Error, Failure, Registration};

use crate::setup::{Expected, World};

cases!(slow_reader, reader_that_is_behind_by_more_than_its_buffer);

/// Registers a stream of this many items, and counts those that were made.
async fn counted(world: &World, items: usize, length: usize) -> (Registration, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let handler = move |_: Call| {
        let count = count.clone();
        stream::iter(0..items).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Failure>(vec![0; length])
        })
    };
    (world.service.register_stream("/s", handler).await.unwrap(), made)
}

/// How many items of 10 kB a service makes for a reader that has read one: within a process those that were read, with
/// a window of 100 kB about ten more. A stream has no window if one of its ends is of level 0.
const MADE: Expected<(usize, usize)> = Expected {
    in_process: (1, 1),
    router: (2, 12),
    old_caller: (1000, 1000),
    old_service: (1000, 1000),
    both_old: (1000, 1000),
};

async fn slow_reader(world: &World) {
    let (_service, made) = counted(world, 1000, 10_000).await;
    let echo = |call: Call| async move { Ok(call.data) };
    let _echo = world.service.register("/echo", echo).await.unwrap();
    let mut replies = world.caller.endpoint("/s").window(100_000).stream("").await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap().len(), 10_000);
    let (least, most) = world.expect(&MADE);
    loop {
        world.caller.call("/echo", "").await.unwrap();
        tokio::task::yield_now().await;
        if made.load(Ordering::SeqCst) >= least {
            break;
        }
    }
    for _ in 0..20 {
        world.caller.call("/echo", "").await.unwrap();
    }
    assert!(made.load(Ordering::SeqCst) <= most, "{made:?}");
    // Nothing is lost.
    let mut count = 1;
    while let Some(reply) = replies.next().await {
        assert_eq!(reply.unwrap().len(), 10_000);
        count += 1;
    }
    assert_eq!(count, 1000);
}

/// Whether all of a stream arrives if its reader does not read as long as the service goes on.
const IS_WHOLE: Expected<bool> = Expected {
    in_process: true,
    router: true,
    old_caller: false,
    old_service: false,
    both_old: false,
};

// Of 16 MiB.
async fn reader_that_is_behind_by_more_than_its_buffer(world: &World) {
    let (_service, made) = counted(world, 40, 1 << 20).await;
    let echo = |call: Call| async move { Ok(call.data) };
    let _echo = world.service.register("/echo", echo).await.unwrap();
    let mut replies = world.caller.stream("/s", "").await.unwrap();
    if !world.expect(&IS_WHOLE) {
        while made.load(Ordering::SeqCst) < 40 {
            world.caller.call("/echo", "").await.unwrap();
        }
    }
    let mut count = 0;
    let end = loop {
        match replies.next().await {
            Some(Ok(_)) => count += 1,
            end => break end,
        }
    };
    match world.expect(&IS_WHOLE) {
        true => assert_eq!((count, end), (40, None)),
        false => assert!(matches!(end, Some(Err(Error::Overflow { .. }))), "{count}, {end:?}"),
    }
}
