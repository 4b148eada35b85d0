//! Calls, services and events of code without a runtime.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use futures::stream;
use gsb_client::blocking::Bus;
use gsb_client::{BusBuilder, Call, Connection, Error, Failure, Message};
use gsb_testkit::{TIMEOUT, TestRouter};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "half", item = u32, error = String)]
struct Half(u32);

/// Receives within the time limit of tests.
fn receive<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(TIMEOUT).unwrap()
}

/// Calls `test` with the buses of a service and a caller: the same bus without a router, then two over a router.
fn in_process_and_over_a_router(test: impl Fn(&Bus, &Bus)) {
    let bus = Bus::local().unwrap();
    test(&bus, &bus);
    let runtime = Runtime::new().unwrap();
    let router = runtime.block_on(TestRouter::start());
    test(&Bus::connect(&router.unix).unwrap(), &Bus::connect(&router.tcp).unwrap());
    runtime.block_on(router.stop());
}

#[test]
fn calls_streams_and_pushes() {
    in_process_and_over_a_router(|service, caller| {
        let echo = service.register("/echo", |call: Call| Ok(call.data)).unwrap();
        let count = |_: Call| stream::iter((1..=3).map(|number| Ok(number.to_string())));
        let count = service.as_async().register_stream("/count", count);
        let _count = service.block_on(count).unwrap();
        let (sender, pushed) = channel();
        let push = move |call: Call| sender.send(call.data).unwrap();
        let _push = service.register_push("/push", push).unwrap();

        assert_eq!(caller.call("/echo", "hello").unwrap(), "hello");
        let replies = caller.stream("/count", "").unwrap();
        assert_eq!(replies.map(Result::unwrap).collect::<Vec<_>>(), ["1", "2", "3"]);
        caller.push("/push", "line").unwrap();
        caller.flush().unwrap();
        assert_eq!(receive(&pushed), "line");

        echo.unregister().unwrap();
        assert!(matches!(caller.call("/echo", ""), Err(Error::NoSuchService { .. })));
    });
}

#[test]
fn typed_messages() {
    in_process_and_over_a_router(|service, caller| {
        let half = |Half(number)| match number % 2 {
            0 => Ok(number / 2),
            _ => Err(format!("{number} is odd")),
        };
        let _half = service.bind("/math", half).unwrap();
        let math = caller.service("/math").with(|math| math.timeout(TIMEOUT));
        assert_eq!(math.call(Half(8)).unwrap(), Ok(4));
        assert_eq!(math.call(Half(7)).unwrap(), Err("7 is odd".to_owned()));
        let items: Vec<_> = math.stream(Half(8)).unwrap().map(Result::unwrap).collect();
        assert_eq!(items, [Ok(4)]);
    });
}

#[test]
fn options_of_a_call() {
    in_process_and_over_a_router(|service, caller| {
        let (release, held) = channel::<()>();
        let held = Mutex::new(held);
        let slow = move |call: Call| {
            let _ = held.lock().unwrap().recv();
            Ok(call.caller)
        };
        let _slow = service.register("/slow", slow).unwrap();
        let short = Duration::from_millis(20);
        let slow = caller.endpoint("/slow").with(|slow| slow.caller("me").timeout(short));
        assert!(matches!(slow.call(""), Err(Error::Timeout { after, .. }) if after == short));
        release.send(()).unwrap();
        release.send(()).unwrap();
        assert_eq!(slow.with(|slow| slow.timeout(None)).call("").unwrap(), "me");
    });
}

#[test]
fn a_subscription_is_an_iterator_that_a_shutdown_ends() {
    in_process_and_over_a_router(|listener, sender| {
        let mut events = listener.subscribe("weather/*").unwrap();
        sender.broadcast("weather/warsaw", "sunny").unwrap();
        let event = events.next().unwrap().unwrap();
        assert_eq!((event.topic.as_str(), &event.data[..]), ("weather/warsaw", &b"sunny"[..]));
        events.unsubscribe().unwrap();

        let mut events = listener.subscribe("weather/*").unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(move || events.next());
            listener.shutdown(TIMEOUT).unwrap();
            assert_eq!(waiting.join().unwrap(), None);
        });
        listener.closed().unwrap();
    });
}

// Each handler waits for the other, so both run, and on threads that may block.
#[test]
fn handlers_block_at_the_same_time_and_may_call() {
    in_process_and_over_a_router(|service, caller| {
        let both = Arc::new(Barrier::new(2));
        let meet = move |call: Call| {
            both.wait();
            Ok(call.data)
        };
        let _meet = service.register("/meet", meet).unwrap();
        let weak = service.downgrade();
        let relay = move |call: Call| {
            let bus = weak.upgrade().ok_or("the bus has ended")?;
            Ok(bus.call("/meet", call.data)?)
        };
        let _relay = service.register("/relay", relay).unwrap();
        thread::scope(|scope| {
            let first = scope.spawn(|| caller.call("/relay", "one").unwrap());
            assert_eq!(caller.call("/relay", "two").unwrap(), "two");
            assert_eq!(first.join().unwrap(), "one");
        });
    });
}

#[test]
fn a_handler_that_panics_fails_its_call_only() {
    in_process_and_over_a_router(|service, caller| {
        let handler = |call: Call| match call.data.is_empty() {
            true => panic!("on purpose"),
            false => Ok::<_, Failure>(call.data),
        };
        let _service = service.register("/s", handler).unwrap();
        assert!(matches!(caller.call("/s", ""), Err(Error::ServiceFailure { .. })));
        assert_eq!(caller.call("/s", "fine").unwrap(), "fine");
    });
}

// A thread cannot be interrupted, so the handler counts as running after its caller has gone.
#[test]
fn a_handler_runs_to_its_end_and_learns_that_its_caller_has_gone() {
    in_process_and_over_a_router(|service, caller| {
        let (sender, ended) = channel();
        let waits = move |call: Call| {
            while !call.context().is_cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(20));
            sender.send(()).unwrap();
            Ok("")
        };
        service.register("/s", waits).unwrap().detach();
        let endpoint = caller.endpoint("/s").with(|s| s.timeout(Duration::from_millis(20)));
        assert!(matches!(endpoint.call(""), Err(Error::Timeout { .. })));
        service.shutdown(TIMEOUT).unwrap();
        ended.try_recv().unwrap();
    });
}

// Without a flush. The pushes exceed what the socket takes at once.
#[test]
fn dropping_the_last_handle_writes_what_is_queued_and_ends_the_bus() {
    let runtime = Runtime::new().unwrap();
    let router = runtime.block_on(TestRouter::start());
    let service = Bus::connect(&router.unix).unwrap();
    let (sender, pushed) = channel();
    let push = move |call: Call| sender.send(call.data.len()).unwrap();
    let _push = service.register_push("/push", push).unwrap();

    let caller = Bus::connect(&router.unix).unwrap();
    let ended = caller.as_async().clone();
    // Another handle keeps the bus.
    let endpoint = caller.endpoint("/push");
    drop(caller);
    for _ in 0..20 {
        endpoint.push(vec![7; 100_000]).unwrap();
    }
    drop(endpoint);
    assert!(matches!(ended.status().connection, Connection::Closed(_)));
    for _ in 0..20 {
        assert_eq!(receive(&pushed), 100_000);
    }
    runtime.block_on(router.stop());
}

#[test]
fn a_handler_may_drop_the_last_handle() {
    let bus = Bus::local().unwrap();
    let ended = bus.as_async().clone();
    let (sender, dropped) = channel();
    let (entered, running) = channel();
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let weak = bus.downgrade();
    let last = move |_: Call| {
        let bus = weak.upgrade().unwrap();
        entered.send(()).unwrap();
        let _ = held.lock().unwrap().recv();
        drop(bus);
        sender.send(()).unwrap();
    };
    bus.register_push("/last", last).unwrap().detach();
    bus.push("/last", "").unwrap();
    receive(&running);
    drop(bus);
    release.send(()).unwrap();
    receive(&dropped);
    Runtime::new().unwrap().block_on(ended.closed()).unwrap();
}

// On the thread of the bus, which cannot wait for its own end.
#[test]
fn a_task_of_the_bus_may_drop_the_last_handle() {
    let bus = Bus::local().unwrap();
    let ended = bus.as_async().clone();
    let (sender, dropped) = channel();
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    let last = bus.clone();
    let task = async move {
        let _ = held.await;
        drop(last);
        sender.send(()).unwrap();
    };
    bus.block_on(async { drop(tokio::spawn(task)) });
    drop(bus);
    release.send(()).unwrap();
    receive(&dropped);
    Runtime::new().unwrap().block_on(ended.closed()).unwrap();
}

#[test]
fn a_router_that_is_not_there() {
    let nowhere = "unix:/nowhere/gsb.sock";
    assert!(matches!(Bus::connect(nowhere), Err(Error::Connect { .. })));
    let bus = BusBuilder::default().blocking().connect_lazy(nowhere).unwrap();
    assert!(matches!(bus.call("/s", ""), Err(Error::NotSent(_))));
}

#[test]
fn a_method_that_waits_panics_within_an_async_context() {
    let bus = Bus::local().unwrap();
    let _echo = bus.register("/echo", |call: Call| Ok(call.data)).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let panicked = catch_unwind(AssertUnwindSafe(|| bus.call("/echo", ""))).unwrap_err();
        let message = panicked.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panicked.downcast_ref::<String>().cloned()).unwrap();
        assert!(message.contains("Cannot start a runtime from within a runtime"), "{message}");
        assert!(catch_unwind(Bus::local).is_err());
        let there = bus.clone();
        let reply = tokio::task::spawn_blocking(move || there.call("/echo", "allowed")).await;
        assert_eq!(reply.unwrap().unwrap(), "allowed");
        // Dropping the last handle does not wait here.
        drop((_echo, bus));
    });
}
