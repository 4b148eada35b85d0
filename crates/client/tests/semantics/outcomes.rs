//! How a call with one reply ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use gsb_client::{Call, Error, Failure, Message, Reply};
use gsb_testkit::TIMEOUT;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use crate::setup::World;

cases!(
    reply,
    reply_of_megabytes,
    headers,
    failure,
    bad_request,
    panic,
    no_such_service,
    busy,
    timeout,
    service_of_pushes,
    stream_as_one_reply,
    service_that_comes_later,
    longest_name,
    typed_answer,
    typed_call_with_its_caller,
    typed_message_that_cannot_be_decoded,
);

fn address() -> String {
    "/s".to_owned()
}

async fn reply(world: &World) {
    let echo = |call: Call| async move {
        Ok(format!("{} {} {:?} {}", call.caller, call.address, call.data, call.wants_reply()))
    };
    let service = world.service.register("/s", echo).await.unwrap();
    let endpoint = world.caller.endpoint("/s/below").caller("me");
    assert_eq!(endpoint.call("data").await.unwrap(), "me /s/below b\"data\" true");
    assert_eq!(world.caller.call("/s", "").await.unwrap(), "gsb-client /s b\"\" true");
    service.unregister().await.unwrap();
}

async fn reply_of_megabytes(world: &World) {
    let twice = |call: Call| async move { Ok([&call.data[..], &call.data[..]].concat()) };
    let _service = world.service.register("/s", twice).await.unwrap();
    let data: Bytes = (0..3 << 20).map(|place: u32| place.to_le_bytes()[1]).collect();
    let reply = world.caller.call("/s", data.clone()).await.unwrap();
    assert!(reply == [&data[..], &data[..]].concat());
}

// Of the call and of its reply, at each level.
async fn headers(world: &World) {
    let handler = |call: Call| async move {
        let language = call.headers().get("accept-language").cloned().unwrap_or_default();
        Ok(Reply::new(call.data).header("Content-Language", language).header("binary", vec![0xff]))
    };
    let _service = world.service.register("/s", handler).await.unwrap();
    let endpoint = world.caller.endpoint("/s").header("Accept-Language", "de");
    let reply = endpoint.call_reply("data").await.unwrap();
    let expected = Reply::new("data").header("content-language", "de").header("binary", vec![0xff]);
    assert_eq!(reply, expected);
    assert_eq!(endpoint.call("data").await.unwrap(), "data");
}

async fn failure(world: &World) {
    let fails = |_: Call| async { Err::<Bytes, _>(Failure::new("it broke")) };
    let _service = world.service.register("/s", fails).await.unwrap();
    let error = world.caller.call("/s", "").await.unwrap_err();
    let expected = Error::ServiceFailure { address: address(), message: "it broke".to_owned() };
    assert_eq!(error, expected);
}

async fn bad_request(world: &World) {
    let refuses = |_: Call| async { Err::<Bytes, _>(Failure::bad_request("not like this")) };
    let _service = world.service.register("/s", refuses).await.unwrap();
    let error = world.caller.call("/s", "").await.unwrap_err();
    let expected = Error::BadRequest { target: address(), message: "not like this".to_owned() };
    assert_eq!(error, expected);
}

// At once, and after its first wait.
async fn panic(world: &World) {
    let panics = |call: Call| async move {
        if call.data == "later" {
            tokio::task::yield_now().await;
        }
        if call.data.is_empty() { Ok("fine") } else { panic!("on purpose") }
    };
    let _service = world.service.register("/s", panics).await.unwrap();
    for data in ["now", "later"] {
        let error = world.caller.call("/s", data).await.unwrap_err();
        let message = "its handler panicked".to_owned();
        assert_eq!(error, Error::ServiceFailure { address: address(), message });
    }
    assert_eq!(world.caller.call("/s", "").await.unwrap(), "fine");
}

// Before the name is registered, and after it is given back.
async fn no_such_service(world: &World) {
    for _ in 0..2 {
        let error = world.caller.call("/s", "").await.unwrap_err();
        assert!(matches!(&error, Error::NoSuchService { address, .. } if address == "/s"));
        assert_eq!(error.to_string(), "there is no service at \"/s\"");
        let service = world.service.register("/s", |_: Call| async { Ok("") }).await.unwrap();
        world.caller.call("/s", "").await.unwrap();
        service.unregister().await.unwrap();
    }
}

async fn busy(world: &World) {
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
    let service = world.service.with_max_running(1);
    let _service = service.register("/s", handler).await.unwrap();
    let second = async {
        running.recv().await.unwrap();
        let error = world.caller.call("/s", "").await.unwrap_err();
        let message = "it is handling 1 call, its limit (max_running or capacity); try again later"
            .to_owned();
        assert_eq!(error, Error::Busy { address: address(), message });
        gate.notify_one();
    };
    let (first, ()) = tokio::join!(world.caller.call("/s", ""), second);
    assert_eq!(first.unwrap(), "done");
    gate.notify_one();
    assert_eq!(world.caller.call("/s", "").await.unwrap(), "done");
}

async fn timeout(world: &World) {
    let never = |_: Call| std::future::pending::<Result<Bytes, Failure>>();
    let _service = world.service.register("/s", never).await.unwrap();
    let after = Duration::from_millis(20);
    let error = world.caller.endpoint("/s").timeout(after).call("").await.unwrap_err();
    assert_eq!(error, Error::Timeout { target: address(), after });
}

async fn service_of_pushes(world: &World) {
    let _service = world.service.register_push("/s", |_| async {}).await.unwrap();
    let error = world.caller.call("/s", "").await.unwrap_err();
    let message = "the service takes pushes only; use `push`".to_owned();
    assert_eq!(error, Error::BadRequest { target: address(), message });
}

// A stream answers a call if it has no more than one reply.
async fn stream_as_one_reply(world: &World) {
    let count = |call: Call| {
        let replies: Vec<Result<Bytes, Failure>> = match &call.data[..] {
            b"none" => Vec::new(),
            b"one" => vec![Ok("1".into())],
            b"two" => vec![Ok("1".into()), Ok("2".into())],
            _ => vec![Err(Failure::new("it broke"))],
        };
        stream::iter(replies)
    };
    let _service = world.service.register_stream("/s", count).await.unwrap();
    let is_stream = Error::IsStream { address: address() };
    let broke = Error::ServiceFailure { address: address(), message: "it broke".to_owned() };
    assert_eq!(world.caller.call("/s", "two").await, Err(is_stream.clone()));
    assert_eq!(world.caller.call("/s", "fails").await, Err(broke));
    assert_eq!(world.caller.call("/s", "one").await, Err(is_stream));
    assert_eq!(world.caller.call("/s", "none").await.unwrap(), "");
}

async fn service_that_comes_later(world: &World) {
    let endpoint = world.caller.endpoint("/s").wait_for_service(TIMEOUT);
    let mut call = pin!(endpoint.call(""));
    assert!(futures::poll!(&mut call).is_pending());
    let _service = world.service.register("/s", |_: Call| async { Ok("late") }).await.unwrap();
    assert_eq!(call.await.unwrap(), "late");
}

async fn longest_name(world: &World) {
    let _short = world.service.register("/s", |_: Call| async { Ok("short") }).await.unwrap();
    let _long = world.service.register("/s/a", |_: Call| async { Ok("long") }).await.unwrap();
    for (address, expected) in [
        ("/s", "short"),
        ("/s/b", "short"),
        ("/s/ab", "short"),
        ("/s/a", "long"),
        ("/s/a/b", "long"),
    ] {
        assert_eq!(world.caller.call(address, "").await.unwrap(), expected, "{address}");
    }
    let error = world.caller.call("/sa", "").await.unwrap_err();
    assert!(matches!(error, Error::NoSuchService { .. }), "{error}");
}

#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "half", item = u32, error = String)]
struct Half(u32);

async fn typed_answer(world: &World) {
    let half = |Half(number)| async move {
        if number % 2 == 0 { Ok(number / 2) } else { Err(format!("{number} is odd")) }
    };
    let _service = world.service.bind("/s", half).await.unwrap();
    let math = world.caller.service("/s");
    assert_eq!(math.call(Half(8)).await.unwrap(), Ok(4));
    assert_eq!(math.call(Half(7)).await.unwrap(), Err("7 is odd".to_owned()));
}

async fn typed_call_with_its_caller(world: &World) {
    let answer = |call: Call<Half>| async move {
        let wants_reply = call.wants_reply();
        Err(format!("{} {} {} {wants_reply}", call.caller, call.address, call.data.0))
    };
    let _service = world.service.bind_call("/s", answer).await.unwrap();
    let answer = world.caller.service("/s").caller("me").call(Half(7)).await.unwrap();
    assert_eq!(answer, Err("me /s/half 7 true".to_owned()));
}

async fn typed_message_that_cannot_be_decoded(world: &World) {
    let _service =
        world.service.bind("/s", |Half(number)| async move { Ok(number) }).await.unwrap();
    let error = world.caller.call("/s/half", "no number").await.unwrap_err();
    assert!(matches!(error, Error::BadRequest { .. }), "{error}");
}
