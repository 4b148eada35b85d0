//! A handler is dropped when no one waits for its answer any more. Rules CA-11, CA-13, CO-8.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use gsb_client::{Bus, BusBuilder, Call, Error, Framing, Registering};
use gsb_proto::messages::{
    CallReply, CallReplyCode, CallReplyReason, CancelCall, Hello, RegisterReply, RegisterRequest,
};
use gsb_testkit::{FakeRouter, Peer, TestRouter, within};
use tokio::sync::mpsc;

/// What becomes of handlers, in order.
#[derive(Clone)]
struct Log(mpsc::UnboundedSender<&'static str>);

/// The entries of a log.
type Entries = mpsc::UnboundedReceiver<&'static str>;

/// Notes in the log that it was dropped.
struct Dropped(Log);

impl Log {
    fn new() -> (Self, Entries) {
        let (log, entries) = mpsc::unbounded_channel();
        (Log(log), entries)
    }

    fn note(&self, what: &'static str) {
        let _ = self.0.send(what);
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

/// The next entry of a log.
async fn next(entries: &mut Entries) -> &'static str {
    within("the handler", entries.recv()).await.unwrap()
}

/// Registers `/call`, which never answers, `/tail`, a stream that never ends, and `/detached`, which ends when its call
/// is cancelled.
async fn serve(bus: &Bus, log: &Log) {
    let (calls, tails, detached) = (log.clone(), log.clone(), log.clone());
    let call = move |_: Call| {
        let log = calls.clone();
        async move {
            let _dropped = Dropped(log.clone());
            log.note("begun");
            std::future::pending::<()>().await;
            Ok("")
        }
    };
    bus.register("/call", call).await.unwrap().detach();
    let tail = move |_: Call| {
        let dropped = Dropped(tails.clone());
        tails.note("begun");
        stream::iter(["one"]).chain(stream::pending()).map(move |line| {
            let _dropped = &dropped;
            Ok(line)
        })
    };
    bus.register_stream("/tail", tail).await.unwrap().detach();
    let detach = move |call: Call| {
        let log = detached.clone();
        async move {
            call.detach();
            log.note("begun");
            call.cancelled().await;
            tokio::task::yield_now().await;
            log.note("went on");
            Ok("")
        }
    };
    bus.register("/detached", detach).await.unwrap().detach();
}

/// The ways in which a caller goes, with every kind of handler.
async fn callers_go(caller: &Bus, entries: &mut Entries) {
    // A dropped future.
    let mut call = Box::pin(caller.call("/call", ""));
    tokio::select! {
        ended = &mut call => panic!("{ended:?}"),
        entry = next(entries) => assert_eq!(entry, "begun"),
    }
    drop(call);
    assert_eq!(next(entries).await, "dropped");

    // A timeout.
    let endpoint = caller.endpoint("/call").timeout(Duration::from_millis(20));
    let error = within("the timeout", endpoint.call("")).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!((next(entries).await, next(entries).await), ("begun", "dropped"));

    // A dropped stream.
    let mut lines = caller.stream("/tail", "").await.unwrap();
    assert_eq!(within("a line", lines.next()).await.unwrap().unwrap(), "one");
    drop(lines);
    assert_eq!((next(entries).await, next(entries).await), ("begun", "dropped"));

    // A detached handler goes on.
    let endpoint = caller.endpoint("/detached").timeout(Duration::from_millis(20));
    within("the timeout", endpoint.call("")).await.unwrap_err();
    assert_eq!((next(entries).await, next(entries).await), ("begun", "went on"));
}

#[tokio::test]
async fn a_handler_of_this_process_is_dropped_with_its_caller() {
    let bus = Bus::local();
    let (log, mut entries) = Log::new();
    serve(&bus, &log).await;
    callers_go(&bus, &mut entries).await;
}

#[tokio::test]
async fn a_handler_of_another_process_is_dropped_with_its_caller() {
    let router = TestRouter::start().await;
    let (service, caller) =
        (Bus::connect(&router.unix).await.unwrap(), Bus::connect(&router.tcp).await.unwrap());
    let (log, mut entries) = Log::new();
    serve(&service, &log).await;
    callers_go(&caller, &mut entries).await;

    // The process of the caller has ended, with either framing.
    for framing in [Framing::Packet, Framing::Classic] {
        let mut reader = Peer::connect(&router.tcp, framing).await;
        reader.call("/tail", "1", "").await;
        let _: CallReply = reader.expect().await;
        assert_eq!(next(&mut entries).await, "begun");
        drop(reader);
        assert_eq!(next(&mut entries).await, "dropped");
    }
    // The router has forgotten all of them.
    within("the end of all calls", async {
        while router.status.usage().open_calls + router.status.usage().orphaned_calls > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    router.stop().await;
}

#[tokio::test]
async fn a_handler_is_dropped_when_the_connection_is_lost_and_a_push_is_not() {
    let router = TestRouter::start().await;
    let service = Bus::connect(&router.unix).await.unwrap();
    let (log, mut entries) = Log::new();
    serve(&service, &log).await;
    let (gate, is_open) = tokio::sync::oneshot::channel::<()>();
    let (is_open, pushes) = (std::sync::Mutex::new(Some(is_open)), log.clone());
    let push = move |_: Call| {
        let (is_open, log) = (is_open.lock().unwrap().take().unwrap(), pushes.clone());
        async move {
            log.note("pushed");
            let _ = is_open.await;
            log.note("done");
        }
    };
    service.register_push("/push", push).await.unwrap().detach();
    let caller = Bus::connect(&router.unix).await.unwrap();
    caller.push("/push", "").await.unwrap();
    assert_eq!(next(&mut entries).await, "pushed");
    let call = tokio::spawn(async move { caller.call("/call", "").await });
    assert_eq!(next(&mut entries).await, "begun");
    router.kill().await;
    assert_eq!(next(&mut entries).await, "dropped");
    assert!(within("the call", call).await.unwrap().is_err());
    gate.send(()).unwrap();
    assert_eq!(next(&mut entries).await, "done");
}

#[tokio::test]
async fn a_cancelled_call_to_a_serial_service_never_begins() {
    let router = TestRouter::start().await;
    let (service, caller) =
        (Bus::connect(&router.unix).await.unwrap(), Bus::connect(&router.tcp).await.unwrap());
    let (log, mut entries) = Log::new();
    let (gate, is_open) = tokio::sync::watch::channel(false);
    let handler = move |call: Call| {
        let (log, mut is_open) = (log.clone(), is_open.clone());
        async move {
            log.note(match &call.data[..] {
                b"first" => "first",
                b"second" => "second",
                _ => "third",
            });
            is_open.wait_for(|is_open| *is_open).await?;
            Ok(call.data)
        }
    };
    let serial = service.serial();
    let _serial = serial.register("/serial", handler).await.unwrap();
    let call = |data: &'static str| {
        let caller = caller.clone();
        tokio::spawn(async move { caller.call("/serial", data).await })
    };
    let first = call("first");
    assert_eq!(next(&mut entries).await, "first");
    let second = caller.endpoint("/serial").timeout(Duration::from_millis(20));
    within("the timeout", second.call("second")).await.unwrap_err();
    caller.flush().await.unwrap();
    let third = call("third");
    within("the cancellation", async {
        while router.status.usage().orphaned_calls > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gate.send(true).unwrap();
    assert_eq!(next(&mut entries).await, "third");
    assert_eq!(within("the first", first).await.unwrap().unwrap(), "first");
    assert_eq!(within("the third", third).await.unwrap().unwrap(), "third");
    router.stop().await;
}

// Rule CA-13: the service ends a call that it has dropped with one last reply.
#[tokio::test]
async fn the_router_is_told_the_end_of_a_dropped_handler() {
    let fake = FakeRouter::start().await;
    let (_service, mut router, mut entries) = serving(&fake, Bus::builder()).await;
    for (number, address) in ["/call", "/tail"].into_iter().enumerate() {
        let request_id = number.to_string();
        router.call(address, &request_id, "").await;
        assert_eq!(next(&mut entries).await, "begun");
        if address == "/tail" {
            let _: CallReply = router.expect().await;
        }
        router.send(CancelCall { request_id: request_id.clone() }).await;
        assert_eq!(next(&mut entries).await, "dropped");
        let reply: CallReply = router.expect().await;
        assert_eq!(reply.request_id, request_id);
        assert_eq!(reply.code, CallReplyCode::ServiceFailure as i32);
        assert_eq!(reply.reason(), CallReplyReason::ReasonCancelled);
        assert_eq!(reply.reply_type, 0, "it is the last one");
    }
    router.expect_nothing_behind().await;
}

/// A router that has accepted the services of [`serve`].
async fn serving(fake: &FakeRouter, builder: BusBuilder) -> (Bus, Peer, Entries) {
    let service = builder.connect_lazy(fake.address.clone()).unwrap();
    let (log, entries) = Log::new();
    let mut router = fake.accept_with(Hello { level: 1, ..Hello::default() }).await;
    let served = tokio::spawn({
        let service = service.clone();
        async move { serve(&service, &log).await }
    });
    for _ in 0..3 {
        let _: RegisterRequest = router.expect().await;
        router.send(RegisterReply::default()).await;
    }
    served.await.unwrap();
    (service, router, entries)
}

/// Registers a service while the test plays the router.
async fn register(router: &mut Peer, registering: Registering) {
    let registered = tokio::spawn(registering);
    let _: RegisterRequest = router.expect().await;
    router.send(RegisterReply::default()).await;
    registered.await.unwrap().unwrap().detach();
}

#[tokio::test]
async fn a_second_call_with_the_same_id_ends_the_first() {
    let fake = FakeRouter::start().await;
    let (_service, mut router, mut entries) = serving(&fake, Bus::builder()).await;
    router.call("/call", "1", "").await;
    assert_eq!(next(&mut entries).await, "begun");
    router.call("/call", "1", "").await;
    let mut both = [next(&mut entries).await, next(&mut entries).await];
    both.sort_unstable();
    assert_eq!(both, ["begun", "dropped"]);
    router.hang_up().await;
    assert_eq!(next(&mut entries).await, "dropped");
}

#[tokio::test]
async fn a_call_whose_large_reply_is_refused_still_ends_when_it_is_cancelled() {
    let fake = FakeRouter::start().await;
    let builder = Bus::builder().outbox_limit(1000).max_frame(10_000);
    let (service, mut router, mut entries) = serving(&fake, builder).await;
    let (log, mut cancelled) = Log::new();
    let large = move |call: Call| {
        let (log, context) = (log.clone(), call.context().clone());
        let length = String::from_utf8_lossy(&call.data).parse().unwrap();
        tokio::spawn(async move {
            log.note("begun");
            context.cancelled().await;
            log.note("cancelled");
        });
        async move { Ok(vec![0; length]) }
    };
    register(&mut router, service.register("/large", large)).await;
    // The router reads nothing, so that replies wait for room.
    const OTHERS: usize = 500;
    for number in 0..OTHERS {
        router.call("/large", &number.to_string(), "9000").await;
        assert_eq!(next(&mut cancelled).await, "begun");
    }
    router.call("/large", "refused", "20000").await;
    assert_eq!(next(&mut cancelled).await, "begun");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    router.send(CancelCall { request_id: "refused".to_owned() }).await;
    assert_eq!(next(&mut cancelled).await, "cancelled");
    let ended = async {
        loop {
            let reply: CallReply = router.expect().await;
            if reply.request_id == "refused" {
                return reply;
            }
        }
    };
    let reply = within("the end of the call", ended).await;
    assert_eq!(reply.reply_type, 0, "it is the last one");
    entries.close();
}

#[tokio::test]
async fn a_detached_stream_goes_on_when_the_connection_is_lost_while_it_waits_for_room() {
    let fake = FakeRouter::start().await;
    let (service, mut router, _entries) = serving(&fake, Bus::builder().outbox_limit(1000)).await;
    let (log, mut entries) = Log::new();
    let detached = move |call: Call| {
        call.detach();
        let log = log.clone();
        stream::iter(0..1000).map(move |number| {
            match number {
                0 => log.note("begun"),
                999 => log.note("done"),
                _ => {}
            }
            Ok(vec![0; 9000])
        })
    };
    register(&mut router, service.register_stream("/backup", detached)).await;
    router.call("/backup", "1", "").await;
    assert_eq!(next(&mut entries).await, "begun");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(entries.try_recv().is_err(), "it waits for room");
    drop(router);
    assert_eq!(next(&mut entries).await, "done");
}

// A detached stream and a push run without a reader, however fast their items are made.
#[tokio::test]
async fn a_stream_without_a_reader_lets_other_tasks_run() {
    let bus = Bus::local();
    let (log, mut entries) = Log::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let handler = {
        let is_over = is_over.clone();
        move |call: Call| {
            call.detach();
            let (log, is_over) = (log.clone(), is_over.clone());
            log.note("begun");
            stream::iter(0..1_000_000).map(move |number| {
                if is_over.load(Ordering::SeqCst) {
                    log.note("told");
                    return Err("it is over".into());
                }
                if number == 999_999 {
                    log.note("starved the others");
                }
                Ok("")
            })
        }
    };
    bus.register_stream("/endless", handler).await.unwrap().detach();
    bus.push("/endless", "").await.unwrap();
    assert_eq!(next(&mut entries).await, "begun");
    is_over.store(true, Ordering::SeqCst);
    assert_eq!(next(&mut entries).await, "told");

    is_over.store(false, Ordering::SeqCst);
    drop(bus.stream("/endless", "").await.unwrap());
    assert_eq!(next(&mut entries).await, "begun");
    tokio::task::yield_now().await;
    is_over.store(true, Ordering::SeqCst);
    assert_eq!(next(&mut entries).await, "told");
}

#[tokio::test]
async fn a_shutdown_drops_what_has_outlived_its_patience() {
    let router = TestRouter::start().await;
    let local = Bus::local();
    let (service, caller) =
        (Bus::connect(&router.unix).await.unwrap(), Bus::connect(&router.tcp).await.unwrap());
    for (service, caller) in [(local.clone(), local), (service, caller)] {
        let (log, mut entries) = Log::new();
        serve(&service, &log).await;
        let mut tails = Vec::new();
        for _ in 0..50 {
            let mut tail = caller.stream("/tail", "").await.unwrap();
            assert_eq!(within("a line", tail.next()).await.unwrap().unwrap(), "one");
            assert_eq!(next(&mut entries).await, "begun");
            tails.push(tokio::spawn(async move { tail.next().await }));
        }
        let call = tokio::spawn(async move { caller.call("/call", "").await });
        assert_eq!(next(&mut entries).await, "begun");
        within("the shutdown", service.shutdown(Duration::from_millis(20))).await.unwrap();
        for _ in 0..51 {
            assert_eq!(next(&mut entries).await, "dropped");
        }
        let error = within("the call", call).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Cancelled { .. }), "{error}");
        for tail in tails {
            let error = within("the end", tail).await.unwrap().unwrap().unwrap_err();
            assert!(matches!(error, Error::Cancelled { .. }), "{error}");
        }
    }
    router.stop().await;
}
