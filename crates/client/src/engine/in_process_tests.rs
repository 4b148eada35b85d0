use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{Bus, Call, Error, Failure};

use super::*;

#[tokio::test]
async fn depth_is_counted_while_a_handler_is_polled_only() {
    let bus = Bus::local();
    let handler = |call: Call| async move {
        assert_eq!(depth(), 1);
        tokio::task::yield_now().await;
        assert_eq!(depth(), 1);
        if call.data.is_empty() { Ok("") } else { panic!("on purpose") }
    };
    let _service = bus.register("/s", handler).await.expect("a service");
    assert_eq!(depth(), 0);
    bus.call("/s", "").await.expect("a reply");
    assert_eq!(depth(), 0);
    assert!(matches!(bus.call("/s", "panic").await, Err(Error::ServiceFailure { .. })));
    assert_eq!(depth(), 0);
}

/// A service that calls itself as often as the call says.
fn countdown(bus: crate::WeakBus) -> impl Fn(Call) -> BoxFuture<'static, Result<Bytes, Failure>> {
    move |call: Call| {
        let bus = bus.clone();
        Box::pin(async move {
            let number: u32 = std::str::from_utf8(&call.data)?.parse()?;
            if number == 0 {
                return Ok("done".into());
            }
            let bus = bus.upgrade().ok_or_else(|| Failure::new("no bus"))?;
            Ok(bus.call("/countdown", (number - 1).to_string()).await?)
        })
    }
}

#[tokio::test]
async fn nested_calls_cannot_use_up_the_stack() {
    let bus = Bus::local();
    let _service = bus.register("/countdown", countdown(bus.downgrade())).await.expect("a service");
    let reply = bus.call("/countdown", "20000").await.expect("a reply");
    assert_eq!(reply, "done");
}

#[tokio::test]
async fn a_deep_stream_is_as_lazy_as_any_other() {
    let bus = Bus::local();
    let (weak, begun) = (bus.downgrade(), Arc::new(AtomicUsize::new(0)));
    let count = begun.clone();
    let relay = move |call: Call| {
        let (weak, count) = (weak.clone(), count.clone());
        let replies = async move {
            count.fetch_add(1, Ordering::Relaxed);
            let number: u32 =
                std::str::from_utf8(&call.data).expect("text").parse().expect("number");
            if number == 0 {
                return futures::stream::iter((0..5).map(|n| Ok(n.to_string().into()))).boxed();
            }
            let bus = weak.upgrade().expect("a bus");
            let replies = bus.stream("/relay", (number - 1).to_string()).await.expect("a stream");
            replies.map(|reply| reply.map_err(Failure::from)).boxed()
        };
        futures::stream::once(replies).flatten()
    };
    let _service = bus.register_stream("/relay", relay).await.expect("a service");
    let replies = bus.stream("/relay", "1000").await.expect("a stream");
    let replies: Vec<Result<Bytes, Error>> = replies.collect().await;
    let replies: Vec<_> = replies.into_iter().map(|reply| reply.expect("a reply")).collect();
    assert_eq!(replies, ["0", "1", "2", "3", "4"]);
    assert_eq!(begun.load(Ordering::Relaxed), 1001);
}
