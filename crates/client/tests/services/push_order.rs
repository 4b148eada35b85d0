//! Handlers of pushes begin in the order in which the pushes arrive, and pushes beyond the limits are counted.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{join_all, try_join_all};
use gsb_client::{Bus, Call, Error, Failure, Message, Registration};
use gsb_testkit::{TestRouter, within};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tokio::task::yield_now;

const PUSHES: u32 = 20_000;

#[derive(Serialize, Deserialize, Message)]
#[message(id = "number")]
struct Number(u32);

/// The buses of a service and of a caller: the same one in process, or two over a router.
async fn buses(router: Option<&TestRouter>) -> (Bus, Bus) {
    match router {
        None => {
            let bus = Bus::local();
            (bus.clone(), bus)
        }
        Some(router) => {
            let service = Bus::connect(&router.unix).await.unwrap();
            (service, Bus::connect(&router.unix).await.unwrap())
        }
    }
}

fn number(data: &Bytes) -> u32 {
    std::str::from_utf8(data).unwrap().parse().unwrap()
}

/// Waits until all pushes have reached the service, which has refused, queued or handled them.
async fn arrived(caller: &Bus) {
    assert!(matches!(caller.call("/probe", "").await, Err(Error::BadRequest { .. })));
}

/// A service that refuses calls. A refusal comes after all earlier pushes.
async fn probe(service: &Bus) -> Registration {
    service.register_push("/probe", |_: Call| async {}).await.unwrap()
}

async fn begin_in_order(router: Option<&TestRouter>) {
    let (service, caller) = buses(router).await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let (typed_begun, mut typed_begins) = mpsc::unbounded_channel();
    // A lock of tokio, which waits when the budget of a task is used up.
    let list = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let append = {
        let list = list.clone();
        move |call: Call| {
            let (list, begun) = (list.clone(), begun.clone());
            async move {
                list.lock().await.push(number(&call.data));
                begun.send(()).unwrap();
                yield_now().await;
            }
        }
    };
    let typed_append = move |Number(number)| {
        let typed_begun = typed_begun.clone();
        async move {
            typed_begun.send(number).unwrap();
            yield_now().await;
            Ok(())
        }
    };
    let _service = service.register_push("/pushes", append).await.unwrap();
    let _typed = service.bind("/typed", typed_append).await.unwrap();
    let typed = caller.service("/typed");
    for number in 0..PUSHES {
        caller.push("/pushes", number.to_string()).await.unwrap();
        if number % 10 == 0 {
            typed.push(Number(number)).await.unwrap();
        }
    }
    for number in 0..PUSHES {
        within("a push", begins.recv()).await.unwrap();
        if number % 10 == 0 {
            assert_eq!(within("a push", typed_begins.recv()).await, Some(number));
        }
    }
    assert_eq!(*list.lock().await, (0..PUSHES).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_process() {
    begin_in_order(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_a_router() {
    let router = TestRouter::start().await;
    begin_in_order(Some(&router)).await;
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_panics_does_not_hold_up_the_next() {
    let bus = Bus::local();
    let (handled, mut numbers) = mpsc::unbounded_channel();
    let handler = move |call: Call| {
        // In the handler itself, before its future is made, or in the first poll of the future.
        let (handled, number) = (handled.clone(), number(&call.data));
        assert!(number % 100 != 1, "on purpose");
        async move {
            assert!(number % 100 != 2, "on purpose");
            handled.send(number).unwrap();
        }
    };
    let _service = bus.register_push("/pushes", handler).await.unwrap();
    for number in 0..1000 {
        bus.push("/pushes", number.to_string()).await.unwrap();
    }
    for number in (0..1000).filter(|number| !matches!(number % 100, 1 | 2)) {
        assert_eq!(within("a push", numbers.recv()).await, Some(number));
    }
}

/// Records which pushes are handled at the same time, and in which order.
#[derive(Clone, Default)]
struct Journal {
    entries: Arc<Mutex<Vec<u32>>>,
    busy: Arc<tokio::sync::Mutex<()>>,
}

impl Journal {
    async fn handle(self, number: u32) {
        let _alone = self.busy.try_lock().unwrap();
        for _ in 0..number % 3 {
            yield_now().await;
        }
        self.entries.lock().push(number);
    }
}

async fn serial_services_take_turns(router: Option<&TestRouter>) {
    let (service, caller) = buses(router).await;
    let journal = Journal::default();
    let (push, call, typed) = (journal.clone(), journal.clone(), journal.clone());
    let items = journal.clone();
    let serial = service.serial();
    let push = move |call: Call| push.clone().handle(number(&call.data));
    let reply = move |request: Call| {
        let journal = call.clone();
        async move {
            journal.handle(number(&request.data)).await;
            Ok(request.data)
        }
    };
    let answer = move |Number(number)| {
        let journal = typed.clone();
        async move {
            journal.handle(number).await;
            Ok(())
        }
    };
    let stream = move |call: Call| {
        let journal = items.clone();
        futures::stream::iter(0..3).then(move |_| {
            let (journal, data) = (journal.clone(), call.data.clone());
            async move {
                journal.handle(number(&data)).await;
                Ok::<_, Failure>(data)
            }
        })
    };
    let _push = serial.register_push("/push", push).await.unwrap();
    let _call = serial.register("/call", reply).await.unwrap();
    let _typed = serial.bind("/typed", answer).await.unwrap();
    let _stream = serial.register_stream("/stream", stream).await.unwrap();

    let typed = caller.service("/typed");
    let numbers = 0..2000_u32;
    let mut waiting = Vec::new();
    for number in numbers.clone() {
        let (caller, typed) = (&caller, &typed);
        let mut sent = Box::pin(async move {
            let data = number.to_string();
            match number % 8 {
                0 => {
                    caller.call("/call", data).await.unwrap();
                }
                1 => typed.call(Number(number)).await.unwrap().unwrap(),
                2 => typed.push(Number(number)).await.unwrap(),
                3 => {
                    let replies = caller.stream("/stream", data).await.unwrap();
                    assert_eq!(replies.count().await, 3);
                }
                _ => caller.push("/push", data).await.unwrap(),
            }
        });
        // Sent when it is polled, with the whole budget of a task.
        yield_now().await;
        if futures::poll!(&mut sent).is_pending() {
            waiting.push(sent);
        }
    }
    within("the replies", join_all(waiting)).await;
    service.shutdown(gsb_testkit::TIMEOUT).await.unwrap();
    let expected: Vec<_> =
        numbers.flat_map(|number| vec![number; if number % 8 == 3 { 3 } else { 1 }]).collect();
    assert_eq!(*journal.entries.lock(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn serial_services_take_turns_over_a_router() {
    let router = TestRouter::start().await;
    serial_services_take_turns(Some(&router)).await;
    router.stop().await;
}

// In the process a stream waits for its turn only when it is read, which `join_all` begins at once.
#[tokio::test]
async fn serial_services_take_turns_in_process() {
    serial_services_take_turns(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_over_the_limit_are_counted() {
    let router = TestRouter::start().await;
    let (service, caller) = buses(Some(&router)).await;
    let _probe = probe(&service).await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let handler = |gate: Arc<Notify>, begun: mpsc::UnboundedSender<u32>| {
        move |call: Call| {
            let (gate, begun) = (gate.clone(), begun.clone());
            async move {
                begun.send(number(&call.data)).unwrap();
                gate.notified().await;
            }
        }
    };
    for (bus, limit) in [
        (service.with_max_running(1), 1),
        (service.serial().with_max_running(10), 10),
        (service.with_max_running(10).serial(), 10),
    ] {
        // Each round has its own, because the last handler of a round may still wait when the next one begins.
        let gate = Arc::new(Notify::new());
        let handler = handler(gate.clone(), begun.clone());
        let registration = bus.register_push("/pushes", handler).await.unwrap();
        for number in 0..100 {
            caller.push("/pushes", number.to_string()).await.unwrap();
        }
        arrived(&caller).await;
        assert_eq!(registration.dropped_pushes(), 100 - limit);
        // Within the process, the sender gets an error.
        assert!(matches!(service.push("/pushes", "0").await, Err(Error::Busy { .. })));
        assert_eq!(registration.dropped_pushes(), 100 - limit);
        for number in 0..limit {
            assert_eq!(within("a push", begins.recv()).await, Some(u32::try_from(number).unwrap()));
            gate.notify_one();
        }
        registration.unregister().await.unwrap();
    }
    router.stop().await;
}

#[tokio::test]
async fn a_caller_that_gives_up_its_turn_delays_no_other() {
    let bus = Bus::local();
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let handler = move |call: Call| {
        let gate = held.clone();
        async move {
            if call.data == "wait" {
                gate.notified().await;
            }
            Ok(call.data)
        }
    };
    let _service = bus.serial().register("/s", handler).await.unwrap();
    let mut first = Box::pin(bus.call("/s", "wait"));
    let mut second = Box::pin(bus.call("/s", "second"));
    let mut third = Box::pin(bus.call("/s", "third"));
    assert!(futures::poll!(&mut first).is_pending());
    assert!(futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut third).is_pending());
    drop(second);
    drop(first);
    assert_eq!(within("the third", third).await.unwrap(), "third");
    let calls = (0..100).map(|number| bus.call("/s", number.to_string()));
    assert_eq!(try_join_all(calls).await.unwrap().len(), 100);
}
