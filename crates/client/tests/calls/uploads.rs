//! Uploads: requests that are streams. The service sets the pace, and the loss of either end ends both. Rules CA-15, X5.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Bus, Call, Endpoint, Error, Failure, Framing, RequestStream};
use gsb_proto::MessageKind;
use gsb_proto::messages::{
    CallData, CallReply, CallReplyCode, CallReplyReason, CallReplyType, CallRequest, CancelCall,
    Hello, RegisterReply, RegisterRequest, StreamCredit,
};
use gsb_testkit::{FakeRouter, Peer, TestRouter, within};
use tokio::sync::{Notify, mpsc, oneshot};

/// What a part takes from the credit besides its bytes.
const ITEM: usize = 64;

/// The credit with which a caller begins.
const FIRST_CREDIT: usize = 65_536;

/// Notes that it was dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

/// A body that never ends after its first part, and what is told when it is dropped.
fn endless() -> (impl Stream<Item = Bytes> + Send, oneshot::Receiver<()>) {
    let (sender, dropped) = oneshot::channel();
    let guard = Dropped(Some(sender));
    let body = stream::iter(["first"]).chain(stream::pending()).map(move |part| {
        let _guard = &guard;
        Bytes::from(part)
    });
    (body, dropped)
}

/// Registers the services of these tests.
async fn serve(bus: &Bus) {
    let lengths = |call: Call, body: RequestStream| async move {
        let lengths: Vec<_> = body.map_ok(|part| part.len()).try_collect().await?;
        Ok(format!("{:?} {lengths:?}", call.data))
    };
    bus.register_upload("/lengths", lengths).await.unwrap().detach();
    let upper = |_: Call, body: RequestStream| body.map(|part| Ok(part?.to_ascii_uppercase()));
    bus.register_upload_stream("/upper", upper).await.unwrap().detach();
    let early = |_: Call, mut body: RequestStream| async move {
        let first = body.next().await.ok_or("no body")??;
        Ok(first)
    };
    bus.register_upload("/early", early).await.unwrap().detach();
    let fails =
        |_: Call, _: RequestStream| async { Err::<Bytes, _>(Failure::new("the disk is full")) };
    bus.register_upload("/fails", fails).await.unwrap().detach();
    bus.register("/echo", |call: Call| async move { Ok(call.data) }).await.unwrap().detach();
}

/// Calls the services in every way that does not fail.
async fn upload(caller: &Bus) {
    // Boundaries are kept, those of empty and large parts as well.
    let lengths = [0, 1, 70_000, 0, 3_000_000, 5];
    let body = stream::iter(lengths).map(|length| Bytes::from(vec![b'x'; length]));
    let reply = within("a reply", caller.endpoint("/lengths").upload("n", body)).await.unwrap();
    assert_eq!(reply, format!("b\"n\" {lengths:?}"));
    let reply = within("a reply", caller.endpoint("/lengths").upload("", stream::empty())).await;
    assert_eq!(reply.unwrap(), "b\"\" []");
    assert_eq!(caller.call("/lengths", "call").await.unwrap(), "b\"call\" []");

    // Both directions at a time: each part is made when the reply to the one before is there.
    let (parts, body) = mpsc::channel::<Bytes>(1);
    let body = stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) });
    let mut replies = caller.endpoint("/upper").upload_stream("", body).await.unwrap();
    for number in 0..100 {
        parts.try_send(Bytes::from(format!("part {number}"))).unwrap();
        let reply = within("a reply", replies.next()).await.unwrap().unwrap();
        assert_eq!(reply, format!("PART {number}"));
    }
    drop(parts);
    assert!(within("the end", replies.next()).await.is_none());

    // Much in both directions, with an upload that is answered once, and one that is read as a stream.
    let body = stream::iter(0..3000).map(|number| Bytes::from(format!("{number:01000}")));
    let replies = caller.endpoint("/upper").upload_stream("", body).await.unwrap();
    let replies: Vec<_> = within("all", replies.try_collect()).await.unwrap();
    assert!(replies.iter().zip(0..).all(|(reply, number)| *reply == format!("{number:01000}")));
    assert_eq!(replies.len(), 3000);
    let body = stream::iter([Bytes::from("x")]);
    let replies = caller.endpoint("/lengths").upload_stream("s", body).await.unwrap();
    assert_eq!(replies.try_collect::<Vec<_>>().await.unwrap(), ["b\"s\" [1]"]);

    // The handler answers before the end.
    for address in ["/early", "/fails"] {
        let (body, dropped) = endless();
        match within("a reply", caller.endpoint(address).upload("", body)).await {
            Ok(reply) => assert_eq!(reply, "first"),
            Err(Error::ServiceFailure { message, .. }) => assert_eq!(message, "the disk is full"),
            Err(error) => panic!("{error}"),
        }
        within("the end of the body", dropped).await.unwrap();
        let (body, dropped) = endless();
        let replies = caller.endpoint(address).upload_stream("", body).await.unwrap();
        let replies: Vec<_> = within("the end", replies.collect()).await;
        assert_eq!((replies.len(), replies[0].is_ok()), (1, address == "/early"));
        within("the end of the body", dropped).await.unwrap();
    }

    // A service that takes no uploads.
    let (body, dropped) = endless();
    let error = within("an error", caller.endpoint("/echo").upload("", body)).await.unwrap_err();
    assert!(matches!(&error, Error::Unsupported { target, .. } if target == "/echo"), "{error}");
    within("the end of the body", dropped).await.unwrap();
}

#[tokio::test]
async fn a_service_of_this_process_takes_uploads() {
    let bus = Bus::local();
    serve(&bus).await;
    upload(&bus).await;
}

#[tokio::test]
async fn a_service_of_another_process_takes_uploads() {
    let router = TestRouter::start().await;
    let (service, caller) =
        (Bus::connect(&router.unix).await.unwrap(), Bus::connect(&router.tcp).await.unwrap());
    serve(&service).await;
    upload(&caller).await;
    assert_eq!(router.status.usage().open_calls, 0);
    router.stop().await;
}

#[tokio::test]
async fn level_0_supports_no_uploads() {
    let router = TestRouter::start().await;
    let connect = |framing| Bus::builder().framing(framing).connect(&router.unix);
    for (of_service, of_caller) in
        [(Framing::Classic, Framing::Packet), (Framing::Packet, Framing::Classic)]
    {
        let service = connect(of_service).await.unwrap();
        serve(&service).await;
        let caller = connect(of_caller).await.unwrap();
        let (body, dropped) = endless();
        let error =
            within("an error", caller.endpoint("/lengths").upload("", body)).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        within("the end of the body", dropped).await.unwrap();
        assert_eq!(caller.call("/lengths", "call").await.unwrap(), "b\"call\" []");
        service.shutdown(Duration::from_secs(5)).await.unwrap();
    }
    router.stop().await;

    let fake = FakeRouter::start().await;
    let bus = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let mut router = fake.accept().await;
    bus.settled().await.unwrap();
    let error = bus.endpoint("/far").upload("", stream::empty()).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    router.expect_nothing_behind().await;
}

/// Registers `/slow`, whose handler reads a part whenever it is notified.
async fn serve_slowly(bus: &Bus, permits: Arc<Notify>) {
    let slow = move |_: Call, mut body: RequestStream| {
        let permits = permits.clone();
        async move {
            let mut bytes = 0;
            loop {
                permits.notified().await;
                match body.try_next().await? {
                    Some(part) => bytes += part.len(),
                    None => return Ok(bytes.to_string()),
                }
            }
        }
    };
    bus.register_upload("/slow", slow).await.unwrap().detach();
}

#[tokio::test]
async fn a_slow_handler_slows_its_caller_and_nothing_else() {
    let router = TestRouter::start().await;
    for (window, parts, length) in [(1 << 20, 1000, 20_000), (1, 1000, 1000), (1, 20, 500_000)] {
        let service = Bus::builder().stream_window(window).connect(&router.unix).await.unwrap();
        let caller = Bus::connect(&router.unix).await.unwrap();
        serve(&service).await;
        let permits = Arc::new(Notify::new());
        serve_slowly(&service, permits.clone()).await;
        let made = Arc::new(AtomicUsize::new(0));
        let body = {
            let made = made.clone();
            stream::iter(0..parts).map(move |_| {
                made.fetch_add(1, Ordering::SeqCst);
                Bytes::from(vec![0; length])
            })
        };
        let endpoint = caller.endpoint("/slow").timeout(None);
        let uploading = tokio::spawn(async move { endpoint.upload("", body).await });
        for read in 0..=parts {
            if read % (parts / 10) == 0 {
                for _ in 0..3 {
                    assert_eq!(
                        within("a reply", caller.call("/echo", "echo")).await.unwrap(),
                        "echo"
                    );
                }
                let ahead = made.load(Ordering::SeqCst).saturating_sub(read) * (length + ITEM);
                let most = window.max(FIRST_CREDIT) + length + ITEM;
                assert!(ahead < most + length + ITEM, "{ahead} bytes ahead, window {window}");
            }
            permits.notify_one();
            // The handler waits for its next permit.
            assert_eq!(within("a reply", caller.call("/echo", "")).await.unwrap(), "");
        }
        let reply = within("a reply", async {
            let mut uploading = uploading;
            loop {
                permits.notify_one();
                tokio::select! {
                    reply = &mut uploading => break reply.unwrap().unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            }
        })
        .await;
        assert_eq!(reply, (parts * length).to_string());
        service.shutdown(Duration::from_secs(5)).await.unwrap();
    }
    router.stop().await;
}

/// What becomes of the handler of `/wait`, which reads its body to the end and then waits for ever.
async fn serve_waiting(bus: &Bus, detached: bool) -> mpsc::UnboundedReceiver<String> {
    let (log, entries) = mpsc::unbounded_channel();
    let waits = move |call: Call, mut body: RequestStream| {
        let log = log.clone();
        async move {
            if detached {
                call.detach();
            }
            let (sender, dropped) = oneshot::channel();
            let _guard = Dropped(Some(sender));
            let to_log = log.clone();
            tokio::spawn(async move {
                let _ = dropped.await;
                let _ = to_log.send("dropped".to_owned());
            });
            loop {
                match body.next().await {
                    Some(Ok(part)) => log.send(format!("{part:?}")).unwrap(),
                    Some(Err(error)) => {
                        assert!(matches!(error, Error::Cancelled { .. }), "{error}");
                        assert!(body.next().await.is_none(), "an error is the end");
                        return Ok("");
                    }
                    None => std::future::pending().await,
                }
            }
        }
    };
    bus.register_upload("/wait", waits).await.unwrap().detach();
    entries
}

async fn next(entries: &mut mpsc::UnboundedReceiver<String>) -> String {
    within("the handler", entries.recv()).await.unwrap()
}

/// The caller goes while it sends, and after that.
async fn caller_goes(
    endpoint: Endpoint,
    entries: &mut mpsc::UnboundedReceiver<String>,
    detached: bool,
) {
    let (body, dropped) = endless();
    {
        let mut upload = Box::pin(endpoint.upload("", body));
        tokio::select! {
            ended = &mut upload => panic!("{ended:?}"),
            entry = next(entries) => assert_eq!(entry, "b\"first\""),
        }
    }
    within("the end of the body", dropped).await.unwrap();
    assert_eq!(next(entries).await, "dropped");

    let (body, dropped) = endless();
    let mut replies = endpoint.upload_stream("", body).await.unwrap();
    tokio::select! {
        reply = replies.next() => panic!("{reply:?}"),
        entry = next(entries) => assert_eq!(entry, "b\"first\""),
    }
    drop(replies);
    within("the end of the body", dropped).await.unwrap();
    assert_eq!(next(entries).await, "dropped");

    if !detached {
        let body = stream::iter([Bytes::from("all")]);
        let mut upload = Box::pin(endpoint.upload("", body));
        tokio::select! {
            ended = &mut upload => panic!("{ended:?}"),
            entry = next(entries) => assert_eq!(entry, "b\"all\""),
        }
        drop(upload);
        assert_eq!(next(entries).await, "dropped");
    }
}

#[tokio::test]
async fn an_upload_ends_with_its_caller() {
    for detached in [false, true] {
        let bus = Bus::local();
        let mut entries = serve_waiting(&bus, detached).await;
        caller_goes(bus.endpoint("/wait"), &mut entries, detached).await;

        let router = TestRouter::start().await;
        let service = Bus::connect(&router.unix).await.unwrap();
        let caller = Bus::connect(&router.unix).await.unwrap();
        let mut entries = serve_waiting(&service, detached).await;
        caller_goes(caller.endpoint("/wait"), &mut entries, detached).await;

        // The process of the caller ends.
        let mut peer = Peer::silent(&router.unix, Framing::Packet).await;
        peer.send(Hello { level: 1, ..Hello::default() }).await;
        assert_eq!(peer.next().await.map(|frame| frame.kind), Some(MessageKind::Hello));
        peer.send(request("/wait", "1")).await;
        peer.send(part("1", "x", false)).await;
        assert_eq!(next(&mut entries).await, "b\"x\"");
        drop(peer);
        assert_eq!(next(&mut entries).await, "dropped");
        within("the end of all calls", async {
            while router.status.usage().open_calls + router.status.usage().orphaned_calls > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        router.stop().await;
    }
}

#[tokio::test]
async fn an_upload_ends_with_its_service() {
    let router = TestRouter::start().await;
    let caller = Bus::connect(&router.unix).await.unwrap();
    let service = Bus::connect(&router.unix).await.unwrap();
    let mut entries = serve_waiting(&service, false).await;
    let (body, dropped) = endless();
    let endpoint = caller.endpoint("/wait");
    let upload = tokio::spawn(async move { endpoint.upload("", body).await });
    assert_eq!(next(&mut entries).await, "b\"first\"");
    service.close().await;
    let error = within("the error", upload).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ServiceFailure { .. } | Error::Cancelled { .. }), "{error}");
    within("the end of the body", dropped).await.unwrap();
    assert_eq!(next(&mut entries).await, "dropped");

    // The connection of the caller is lost.
    let service = Bus::connect(&router.unix).await.unwrap();
    let mut entries = serve_waiting(&service, false).await;
    let (body, dropped) = endless();
    let mut replies = caller.endpoint("/wait").upload_stream("", body).await.unwrap();
    assert_eq!(next(&mut entries).await, "b\"first\"");
    router.kill().await;
    let error = within("the error", replies.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(_)), "{error}");
    within("the end of the body", dropped).await.unwrap();
    assert_eq!(next(&mut entries).await, "dropped");
}

fn request(address: &str, request_id: &str) -> CallRequest {
    let (address, request_id) = (address.to_owned(), request_id.to_owned());
    CallRequest { address, request_id, more: true, ..CallRequest::default() }
}

fn part(request_id: &str, data: impl Into<Bytes>, end: bool) -> CallData {
    CallData { request_id: request_id.to_owned(), data: data.into(), end }
}

/// The last reply: its code, its reason and its data.
async fn last_reply(router: &mut Peer) -> (CallReplyCode, CallReplyReason, Bytes) {
    let reply: CallReply = router.expect().await;
    assert_eq!(reply.reply_type(), CallReplyType::Full);
    (reply.code(), reply.reason(), reply.data)
}

async fn accept_service(fake: &FakeRouter, names: usize) -> Peer {
    let mut router = fake.accept_with(Hello { level: 1, ..Hello::default() }).await;
    for _ in 0..names {
        let _: RegisterRequest = router.expect().await;
        router.send(RegisterReply::default()).await;
    }
    router
}

#[tokio::test]
async fn a_service_limits_what_an_upload_may_send() {
    let fake = FakeRouter::start().await;
    let builder = Bus::builder().stream_window(200_000).max_running_bytes(300_000);
    let service = builder.connect_lazy(fake.address.clone()).unwrap();
    let permits = Arc::new(Notify::new());
    serve_slowly(&service, permits.clone()).await;
    let mut router = accept_service(&fake, 1).await;

    // The handler reads nothing: a caller that goes beyond the first credit breaks the protocol.
    router.send(request("/slow", "1")).await;
    router.send(part("1", vec![0; FIRST_CREDIT - ITEM - 1], false)).await;
    router.send(part("1", vec![0; 1000], false)).await;
    router.expect_nothing_behind().await;
    router.send(part("1", "", true)).await;
    let (code, reason, _) = last_reply(&mut router).await;
    assert_eq!(code, CallReplyCode::CallReplyBadRequest);
    assert_eq!(reason, CallReplyReason::ReasonLimitReached);
    // Data of a call that has ended is dropped.
    router.send(part("1", "late", true)).await;
    router.expect_nothing_behind().await;

    // The handler reads: it grants the rest of its window, and then what it has read.
    router.send(request("/slow", "2")).await;
    router.send(part("2", vec![0; 1000 - ITEM], false)).await;
    permits.notify_one();
    let granted: StreamCredit = router.expect().await;
    let bytes = 1000 + 200_000 - FIRST_CREDIT as u64;
    assert_eq!(granted, StreamCredit { request_id: "2".into(), bytes, for_request: true });
    for _ in 0..49 {
        router.send(part("2", vec![0; 1000 - ITEM], false)).await;
        permits.notify_one();
        router.expect_nothing_behind().await;
    }
    router.send(part("2", vec![0; 1000 - ITEM], true)).await;
    permits.notify_one();
    permits.notify_one();
    let bytes = within("the reply", async {
        loop {
            permits.notify_one();
            if let Some(frame) = router.next_within(Duration::from_millis(20)).await
                && frame.kind == MessageKind::CallReply
            {
                break frame.decode::<CallReply>().unwrap().data;
            }
        }
    })
    .await;
    assert_eq!(bytes, (51 * (1000 - ITEM)).to_string());

    // A permit that is left would let a handler read.
    let _ = tokio::time::timeout(Duration::ZERO, permits.notified()).await;
    // The first credit of each upload counts towards the limit on running calls.
    for number in 0..5 {
        router.send(request("/slow", &number.to_string())).await;
    }
    let reply: CallReply = router.expect().await;
    assert_eq!((reply.request_id.as_str(), reply.reason()), ("4", CallReplyReason::ReasonBusy));
    // A part that exceeds its credit counts as well.
    router.send(part("0", vec![0; 200_000], false)).await;
    let (_, reason, _) = last_reply(&mut router).await;
    assert_eq!(reason, CallReplyReason::ReasonBusy);
    // What ended calls had reserved is free again.
    for number in 1..4 {
        router.send(CancelCall { request_id: number.to_string() }).await;
        assert_eq!(last_reply(&mut router).await.1, CallReplyReason::ReasonCancelled);
    }
    router.send(request("/slow", "a")).await;
    router.send(part("a", vec![0; 200_000], true)).await;
    router.expect_nothing_behind().await;
    permits.notify_one();
    let reply = within("the reply", async {
        loop {
            permits.notify_one();
            if let Some(frame) = router.next_within(Duration::from_millis(20)).await
                && frame.kind == MessageKind::CallReply
            {
                break frame.decode::<CallReply>().unwrap().data;
            }
        }
    })
    .await;
    assert_eq!(reply, "200000");
}

// The caller cancels at each step of an upload.
#[tokio::test]
async fn cancellations_may_cross_an_upload() {
    let fake = FakeRouter::start().await;
    let service = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    serve(&service).await;
    let mut router = accept_service(&fake, 5).await;
    for step in 0..5 {
        let id = step.to_string();
        router.send(request("/lengths", &id)).await;
        let cancel = CancelCall { request_id: id.clone() };
        for (number, data) in ["one", "two", "three"].into_iter().enumerate() {
            if step == number {
                router.send(cancel.clone()).await;
            }
            router.send(part(&id, data, number == 2)).await;
        }
        if step == 3 {
            router.send(cancel.clone()).await;
        }
        let (code, reason, data) = last_reply(&mut router).await;
        let is_cancelled = reason == CallReplyReason::ReasonCancelled
            // The handler has read the error of its body.
            || code == CallReplyCode::ServiceFailure && data.ends_with(b"the call has ended");
        match step {
            0..3 => assert!(is_cancelled, "step {step}: {data:?}"),
            // The reply may cross the cancellation.
            3 => assert!(is_cancelled || data == "b\"\" [3, 3, 5]", "{data:?}"),
            _ => assert_eq!(data, "b\"\" [3, 3, 5]"),
        }
        router.send(cancel).await;
        router.expect_nothing_behind().await;
    }
    // No call is left.
    within("the shutdown", service.shutdown(Duration::ZERO)).await.ok();
}

#[tokio::test]
async fn a_caller_sends_what_its_credit_allows() {
    let fake = FakeRouter::start().await;
    let bus = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let mut router = fake.accept_with(Hello { level: 1, ..Hello::default() }).await;
    bus.settled().await.unwrap();
    let length = FIRST_CREDIT / 4 - ITEM;
    let (sender, dropped) = oneshot::channel();
    let guard = Dropped(Some(sender));
    let body = stream::iter(0..7).map(move |_| {
        let _guard = &guard;
        Bytes::from(vec![0; length])
    });
    let endpoint = bus.endpoint("/far");
    let upload = tokio::spawn(async move { endpoint.upload("first", body).await });
    let call: CallRequest = router.expect().await;
    assert!(call.more && call.data == "first" && call.reply_credit == 0);
    let id = call.request_id;
    let expect_part = async |router: &mut Peer| {
        let data: CallData = router.expect().await;
        assert_eq!((data.data.len(), data.end), (length, false));
        assert_eq!(data.request_id, id);
    };
    for _ in 0..4 {
        expect_part(&mut router).await;
    }
    router.expect_nothing_behind().await;
    let credit = |bytes, for_request| StreamCredit { request_id: id.clone(), bytes, for_request };
    router.send(credit(1_000_000, false)).await;
    router.expect_nothing_behind().await;
    // One part may exceed the credit.
    router.send(credit(1, true)).await;
    expect_part(&mut router).await;
    router.expect_nothing_behind().await;
    router.send(credit(u64::MAX, true)).await;
    router.send(credit(u64::MAX, true)).await;
    expect_part(&mut router).await;
    expect_part(&mut router).await;
    let end: CallData = router.expect().await;
    assert!(end.end && end.data.is_empty());
    within("the end of the body", dropped).await.unwrap();
    router.reply(&id, "done").await;
    assert_eq!(within("the reply", upload).await.unwrap().unwrap(), "done");
    router.send(credit(1, true)).await;
    router.expect_nothing_behind().await;

    // A caller that goes cancels the call, and sends nothing after that.
    let (body, dropped) = endless();
    let replies = bus.endpoint("/far").upload_stream("", body).await.unwrap();
    let call: CallRequest = router.expect().await;
    assert!(call.more && call.reply_credit > 0);
    let data: CallData = router.expect().await;
    assert_eq!(data.data, "first");
    drop(replies);
    let cancelled: CancelCall = router.expect().await;
    assert_eq!(cancelled.request_id, call.request_id);
    within("the end of the body", dropped).await.unwrap();
    router.expect_nothing_behind().await;
}

#[tokio::test]
async fn a_part_over_the_frame_limit_ends_the_upload() {
    let fake = FakeRouter::start().await;
    let bus = Bus::builder().connect_lazy(fake.address.clone()).unwrap();
    let hello = Hello { level: 1, max_frame: 10_000, ..Hello::default() };
    let mut router = fake.accept_with(hello).await;
    bus.settled().await.unwrap();
    let body = || stream::iter([1000, 20_000, 1]).map(|length| Bytes::from(vec![0; length]));
    let error = within("the error", bus.endpoint("/far").upload("", body())).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 10_000, .. }), "{error}");
    let mut replies = bus.endpoint("/far").upload_stream("", body()).await.unwrap();
    let error = within("the error", replies.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 10_000, .. }), "{error}");
    for _ in 0..2 {
        let _: CallRequest = router.expect().await;
        let data: CallData = router.expect().await;
        assert_eq!(data.data.len(), 1000);
        let _: CancelCall = router.expect().await;
    }
    router.expect_nothing_behind().await;
}

// The body ends with the call, also if no one reads the replies.
#[tokio::test]
async fn a_body_ends_when_the_service_has_answered() {
    let router = TestRouter::start().await;
    let service = Bus::connect(&router.unix).await.unwrap();
    serve(&service).await;
    let caller = Bus::connect(&router.unix).await.unwrap();
    let (body, dropped) = endless();
    let unread = caller.endpoint("/early").upload_stream("", body).await.unwrap();
    within("the end of the body", dropped).await.unwrap();
    assert_eq!(unread.try_collect::<Vec<_>>().await.unwrap(), ["first"]);
    router.stop().await;
}

// Its task would end, and the service would wait for more of the body.
#[tokio::test]
async fn a_body_that_panics_ends_the_call() {
    let router = TestRouter::start().await;
    let (local, service) = (Bus::local(), Bus::connect(&router.unix).await.unwrap());
    let caller = Bus::connect(&router.tcp).await.unwrap();
    for (service, caller) in [(local.clone(), local), (service, caller)] {
        serve(&service).await;
        let body = stream::iter(0..2).map(|part| match part {
            0 => Bytes::from("first"),
            _ => panic!("on purpose"),
        });
        let endpoint = caller.endpoint("/upper").timeout(None);
        let mut replies = endpoint.upload_stream("", body).await.unwrap();
        let mut errors = replies.by_ref().filter_map(|reply| std::future::ready(reply.err()));
        let error = within("the error", errors.next()).await;
        assert!(matches!(error, Some(Error::ServiceFailure { .. })), "{error:?}");
    }
    within("the end of the call", async {
        while router.status.usage().open_calls + router.status.usage().orphaned_calls > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    router.stop().await;
}
