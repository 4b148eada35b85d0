//! Every call ends exactly once, with an outcome that differs from all others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use gsb_client::{Bus, Call, Error, Failure, Framing, LostReason};
use gsb_proto::messages::{CallRequest, RegisterReply, RegisterRequest};
use gsb_testkit::{Peer, TestRouter, within};
use tokio::sync::{Notify, mpsc};

async fn pair(router: &TestRouter) -> (Bus, Bus) {
    let service = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.tcp).await.unwrap();
    (service, caller)
}

#[tokio::test]
async fn both_framings_on_both_sockets() {
    let router = TestRouter::start().await;
    for address in [&router.unix, &router.tcp] {
        for framing in [Framing::Packet, Framing::Classic] {
            let builder = Bus::builder().framing(framing).name("/tester");
            let service = builder.clone().connect(address).await.unwrap();
            let caller = builder.connect(address).await.unwrap();
            let echo = |call: Call| async move {
                let text = format!("{} {} {:?}", call.caller, call.address, call.data);
                Ok(text)
            };
            let registration = service.register("/echo", echo).await.unwrap();
            assert_eq!(registration.service_id(), "/echo");
            let reply = caller.call("/echo/loud", "hello").await.unwrap();
            assert_eq!(reply, "/tester /echo/loud b\"hello\"");
            let endpoint = caller.endpoint("/echo").caller("/me");
            assert_eq!(endpoint.call("").await.unwrap(), "/me /echo b\"\"");
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn outcomes_are_told_apart() {
    let router = TestRouter::start().await;
    let (service, caller) = pair(&router).await;
    let handler = |call: Call| async move {
        match call.address.as_str() {
            "/s/bad" => Err(Failure::bad_request("not like this")),
            "/s/fails" => Err(Failure::new("it broke")),
            "/s/error" => Err("x".parse::<u32>().unwrap_err().into()),
            "/s/panics" => panic!("on purpose"),
            "/s/never" => std::future::pending().await,
            _ => Ok(Bytes::from_static(b"fine")),
        }
    };
    let _service = service.register("/s", handler).await.unwrap();
    let stream = |_: Call| futures::stream::iter([Ok(Bytes::from_static(b"one"))]);
    let _stream = service.register_stream("/stream", stream).await.unwrap();
    let _push = service.register_push("/push", |_| async {}).await.unwrap();

    let failed = async |address: &str| caller.call(address, "").await.unwrap_err();
    match failed("/nowhere").await {
        Error::NoSuchService { address, message } => {
            assert_eq!(address, "/nowhere");
            assert!(message.contains("/nowhere"));
        }
        other => panic!("{other}"),
    }
    match failed("/s/bad").await {
        Error::BadRequest { target, message } => {
            assert_eq!((target.as_str(), message.as_str()), ("/s/bad", "not like this"));
        }
        other => panic!("{other}"),
    }
    for (address, text) in
        [("/s/fails", "it broke"), ("/s/error", "invalid digit"), ("/s/panics", "panicked")]
    {
        match failed(address).await {
            Error::ServiceFailure { message, .. } => assert!(message.contains(text), "{message}"),
            other => panic!("{other}"),
        }
    }
    assert!(matches!(failed("/stream").await, Error::IsStream { .. }));
    assert!(matches!(failed("/push").await, Error::BadRequest { .. }));
    let short = Duration::from_millis(20);
    match caller.endpoint("/s/never").timeout(short).call("").await.unwrap_err() {
        Error::Timeout { target, after } => {
            assert_eq!((target.as_str(), after), ("/s/never", short))
        }
        other => panic!("{other}"),
    }
    // After all that, both connections still work.
    assert_eq!(caller.call("/s", "").await.unwrap(), "fine");
    router.stop().await;
}

#[tokio::test]
async fn names_are_unique_and_come_back() {
    let router = TestRouter::start().await;
    let (a, b) = pair(&router).await;
    let handler = |_: Call| async { Ok("") };
    let first = a.register("/x", handler).await.unwrap();
    for bus in [&a, &b] {
        match bus.register("/x", handler).await.unwrap_err() {
            Error::AlreadyRegistered { service_id, .. } => assert_eq!(service_id, "/x"),
            other => panic!("{other}"),
        }
    }
    assert!(matches!(a.register("a b", handler).await, Err(Error::Name(_))));
    // The refused registrations have not affected the first one.
    b.call("/x", "").await.unwrap();
    first.unregister().await.unwrap();
    let second = b.register("/x", handler).await.unwrap();
    drop(second);
    // In order on one connection: the name is free again at once.
    let third = b.register("/x", handler).await.unwrap();
    third.detach();
    a.call("/x", "").await.unwrap();
    router.stop().await;
}

#[tokio::test]
async fn calls_run_concurrently_up_to_a_limit() {
    let router = TestRouter::start().await;
    let service = Bus::builder().max_running(2).connect(&router.unix).await.unwrap();
    let (entered, mut running) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let handler = move |_: Call| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            entered.send(()).unwrap();
            held.notified().await;
            Ok("done")
        }
    };
    let _service = service.register("/s", handler).await.unwrap();
    let caller = Bus::connect(&router.tcp).await.unwrap();
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.call("/s", "").await })
        })
        .collect();
    for _ in 0..2 {
        within("a running call", running.recv()).await.unwrap();
    }
    match caller.call("/s", "").await.unwrap_err() {
        Error::Busy { message, .. } => assert!(message.contains("2 calls"), "{message}"),
        other => panic!("{other}"),
    }
    gate.notify_waiters();
    for call in join_all(calls).await {
        assert_eq!(call.unwrap().unwrap(), "done");
    }
    router.stop().await;
}

// A calls B, which calls A: no task waits for itself.
#[tokio::test]
async fn services_may_call_each_other_in_a_circle() {
    let router = TestRouter::start().await;
    let (a, b) = pair(&router).await;
    let _leaf = a.register("/a/leaf", |_: Call| async { Ok("leaf") }).await.unwrap();
    let through = b.clone();
    let middle = move |_: Call| {
        let bus = through.clone();
        async move { Ok(bus.call("/a/leaf", "").await?) }
    };
    let _middle = b.register("/b", middle).await.unwrap();
    let through = a.clone();
    let top = move |_: Call| {
        let bus = through.clone();
        async move { Ok(bus.call("/b", "").await?) }
    };
    let _top = a.register("/a", top).await.unwrap();
    assert_eq!(b.call("/a", "").await.unwrap(), "leaf");
    router.stop().await;
}

#[tokio::test]
async fn many_callers_share_a_connection() {
    let router = TestRouter::start().await;
    let (service, caller) = pair(&router).await;
    let _echo = service.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap();
    let calls = (0..2000).map(|number: u32| {
        let caller = caller.clone();
        async move {
            let reply = caller.call("/echo", number.to_string()).await.unwrap();
            assert_eq!(reply, number.to_string());
        }
    });
    join_all(calls).await;
    assert_eq!(router.status.usage().open_calls, 0);
    router.stop().await;
}

#[tokio::test]
async fn pushes_arrive_and_are_not_answered() {
    let router = TestRouter::start().await;
    let (service, caller) = pair(&router).await;
    let (sender, mut received) = mpsc::unbounded_channel();
    let handler = move |call: Call| {
        sender.send((call.wants_reply(), call.data)).unwrap();
        async {}
    };
    let _log = service.register_push("/log", handler).await.unwrap();
    caller.push("/log", "line").await.unwrap();
    let (wants_reply, data) = within("the push", received.recv()).await.unwrap();
    assert!(!wants_reply);
    assert_eq!(data, "line");
    caller.push("/nowhere", "").await.unwrap();
    router.stop().await;
}

#[tokio::test]
async fn a_lost_connection_ends_everything_at_once() {
    let router = TestRouter::start().await;
    let service = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::builder().reconnect(None).connect(&router.unix).await.unwrap();
    let (entered, mut running) = mpsc::unbounded_channel();
    let handler = move |_: Call| {
        entered.send(()).unwrap();
        std::future::pending::<Result<Bytes, Failure>>()
    };
    let _service = service.register("/s", handler).await.unwrap();
    let waiting = tokio::spawn({
        let caller = caller.clone();
        async move { caller.endpoint("/s").timeout(None).call("").await }
    });
    within("the call", running.recv()).await.unwrap();
    router.stop().await;
    // Either the last answer of the router or the end of the connection comes first.
    let error = within("the end of the call", waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(_) | Error::ServiceFailure { .. }), "{error}");
    let ended = within("the end", caller.closed()).await;
    assert!(matches!(ended, Err(Error::ConnectionLost(LostReason::Stopping))));
    assert!(matches!(caller.call("/s", "").await, Err(Error::NotSent(_))));
    assert!(matches!(caller.push("/s", "").await, Err(Error::NotSent(_))));
    assert!(matches!(caller.subscribe("t").await, Err(Error::NotSent(_))));
    assert!(matches!(caller.broadcast("t", "").await, Err(Error::NotSent(_))));
    assert!(matches!(caller.register("/x", |_| async { Ok("") }).await, Err(Error::NotSent(_))));
}

#[tokio::test]
async fn an_address_without_a_router_is_an_error_that_says_so() {
    let error = Bus::connect("unix:/no/such/socket").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }));
    assert!(error.to_string().contains("/no/such/socket"));
    assert!(matches!(Bus::connect("ftp://x").await, Err(Error::Address(_))));
    // A server that is not a router.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let builder = Bus::builder().connect_timeout(Duration::from_millis(50));
    let error = builder.connect(url.as_str()).await.unwrap_err();
    assert!(error.to_string().contains("did not answer"), "{error}");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_by_the_client() {
    let router = TestRouter::start().await;
    let (service, caller) = pair(&router).await;
    let large = |call: Call| async move {
        let length: usize = std::str::from_utf8(&call.data)?.parse()?;
        Ok(vec![0; length])
    };
    let _large = service.register("/large", large).await.unwrap();
    let limit = 64 << 20;
    match caller.call("/large", vec![0; limit]).await.unwrap_err() {
        Error::TooLarge { length, limit: stated } => assert!(length > limit && stated == limit),
        other => panic!("{other}"),
    }
    match caller.call("/large", limit.to_string()).await.unwrap_err() {
        Error::ServiceFailure { message, .. } => {
            assert!(message.contains("is too large to be sent"), "{message}")
        }
        other => panic!("{other}"),
    }
    match caller.call(&"x".repeat(70_000), "").await.unwrap_err() {
        Error::TooLarge { length, limit: 65_536 } => assert!(length > 70_000),
        other => panic!("{other}"),
    }
    let long_name = Bus::builder().name("x".repeat(70_000)).connect(&router.unix).await.unwrap();
    match long_name.broadcast("news", "").await.unwrap_err() {
        Error::TooLarge { length, limit: 65_536 } => assert!(length > 70_000),
        other => panic!("{other}"),
    }
    let fits = limit - 1000;
    assert_eq!(caller.call("/large", fits.to_string()).await.unwrap().len(), fits);
    router.stop().await;
}

// A dropped call is cancelled, and its late reply is ignored.
#[tokio::test]
async fn a_dropped_call_is_forgotten() {
    let router = TestRouter::start().await;
    let caller = Bus::connect(&router.unix).await.unwrap();
    let mut service = Peer::connect(&router.unix, Framing::Packet).await;
    service.send(RegisterRequest { service_id: "/s".into(), ..Default::default() }).await;
    let RegisterReply { .. } = service.expect().await;
    let dropped = tokio::spawn({
        let caller = caller.clone();
        async move { caller.call("/s", "first").await }
    });
    let first: CallRequest = service.expect().await;
    dropped.abort();
    let second = tokio::spawn(async move { caller.call("/s", "second").await });
    let request: CallRequest = service.expect().await;
    service.reply(&first.request_id, "late").await;
    service.reply(&request.request_id, "in time").await;
    assert_eq!(within("the reply", second).await.unwrap().unwrap(), "in time");
    router.stop().await;
}

// Frames that were sent before the last handle was dropped arrive, also if the socket was full.
#[tokio::test]
async fn dropping_the_handle_loses_nothing_that_was_sent() {
    let router = TestRouter::start().await;
    let service = Bus::connect(&router.unix).await.unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let handler = move |call: Call| {
        sender.send(call.data.len()).unwrap();
        async {}
    };
    let _log = service.register_push("/log", handler).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    for _ in 0..20 {
        caller.push("/log", vec![1; 300_000]).await.unwrap();
    }
    drop(caller);
    for _ in 0..20 {
        assert_eq!(within("a push", received.recv()).await, Some(300_000));
    }
    let caller = Bus::connect(&router.unix).await.unwrap();
    caller.push("/log", vec![1; 5]).await.unwrap();
    let other = caller.clone();
    caller.close().await;
    within("the end", other.closed()).await.unwrap();
    assert_eq!(within("the push", received.recv()).await, Some(5));
    router.stop().await;
}
