//! All subscribers of a publisher receive its events once and in the same order, including those in its own process, and
//! whether or not the router echoes its events.

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use gsb_client::{Bus, BusBuilder, Framing, Subscription};
use gsb_testkit::{TestRouter, within};

/// The payload of the last event.
const END: &str = "end";

/// The topics and payloads of all events before the last one.
async fn all(mut events: Subscription) -> Vec<(String, String)> {
    let mut all = Vec::new();
    loop {
        let event = within("an event", events.next()).await.unwrap().unwrap();
        if event.data == END {
            assert!(events.next().now_or_never().is_none());
            return all;
        }
        all.push((event.topic, String::from_utf8(event.data.to_vec()).unwrap()));
    }
}

fn event(publisher: &str, number: usize) -> (String, String) {
    let topic = ["news/a", "news/*"][number % 2];
    (topic.to_owned(), format!("{publisher} {number} {}", "x".repeat(100)))
}

/// Announces events one after the other.
async fn announce(bus: Bus, publisher: &'static str, count: usize) {
    for number in 0..count {
        let (topic, data) = event(publisher, number);
        bus.broadcast(&topic, data).await.unwrap();
    }
}

/// Announces many events at once.
async fn announce_at_once(bus: Bus, publisher: &'static str, count: usize) {
    let broadcasts = (0..count).map(|number| {
        let (topic, data) = event(publisher, number);
        let bus = &bus;
        async move { bus.broadcast(&topic, data).await }
    });
    for outcome in join_all(broadcasts).await {
        outcome.unwrap();
    }
}

/// Clients with each framing, with large and with small outboxes.
fn publishers() -> impl Iterator<Item = BusBuilder> {
    [Framing::Packet, Framing::Classic].into_iter().flat_map(|framing| {
        let builder = Bus::builder().framing(framing);
        [builder.clone(), builder.outbox_limit(1000)]
    })
}

#[tokio::test]
async fn of_one_publisher() {
    let router = TestRouter::start().await;
    for builder in publishers() {
        let publisher = builder.connect(&router.unix).await.unwrap();
        let elsewhere = Bus::connect(&router.tcp).await.unwrap();
        let classic = Bus::builder().framing(Framing::Classic);
        let classic = classic.connect(&router.unix).await.unwrap();
        let inside = publisher.in_process();
        // Overlapping subscriptions of one connection each get every event.
        let mut subscriptions = Vec::new();
        for bus in [&publisher, &inside, &elsewhere, &classic] {
            for topic in ["news/**", "news/*", "**"] {
                subscriptions.push(bus.subscribe(topic).await.unwrap());
            }
        }
        let other = publisher.subscribe("other/*").await.unwrap();
        announce(publisher.clone(), "one", 200).await;
        publisher.broadcast("**", END).await.unwrap();
        let expected: Vec<_> = (0..200).map(|number| event("one", number)).collect();
        for subscription in subscriptions {
            assert!(all(subscription).await == expected);
        }
        assert_eq!(all(other).await, []);
    }
    router.stop().await;
}

// The publishers race, so the order is not known, but it is the same for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tasks_on_two_threads() {
    let router = TestRouter::start().await;
    for builder in publishers() {
        let publisher = builder.connect(&router.unix).await.unwrap();
        let elsewhere = Bus::connect(&router.tcp).await.unwrap();
        let inside = publisher.in_process();
        let mut subscriptions = Vec::new();
        for bus in [&elsewhere, &publisher, &inside] {
            subscriptions.push(bus.subscribe("news/**").await.unwrap());
        }
        let tasks = ["one", "two"]
            .map(|name| tokio::spawn(announce_at_once(publisher.clone(), name, 1000)));
        for task in tasks {
            within("the publisher", task).await.unwrap();
        }
        publisher.broadcast("news/end", END).await.unwrap();
        let mut seen = Vec::new();
        for subscription in subscriptions {
            seen.push(all(subscription).await);
        }
        assert!(seen[0] == seen[1], "elsewhere as in its process");
        assert!(seen[0] == seen[2], "elsewhere as within its process only");
        let mut sorted = seen.swap_remove(0);
        sorted.sort_unstable();
        let announced = ["one", "two"]
            .into_iter()
            .flat_map(|name| (0..1000).map(move |number| event(name, number)));
        let mut announced: Vec<_> = announced.collect();
        announced.sort_unstable();
        assert!(sorted == announced, "each of them once");
    }
    router.stop().await;
}

// The events of two processes have no common order, but the events of each process keep theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_each_of_two_processes() {
    let router = TestRouter::start().await;
    for builder in publishers() {
        let one = builder.connect(&router.unix).await.unwrap();
        let two = Bus::connect(&router.tcp).await.unwrap();
        let mut subscriptions = Vec::new();
        for bus in [&one, &two] {
            subscriptions.push(bus.subscribe("news/**").await.unwrap());
        }
        let tasks = [("one", &one), ("two", &two)]
            .map(|(name, bus)| tokio::spawn(announce(bus.clone(), name, 300)));
        for task in tasks {
            within("the publisher", task).await.unwrap();
        }
        // This event comes after all others at both subscribers.
        for bus in [&one, &two] {
            bus.subscribe("barrier").await.unwrap().unsubscribe().await.unwrap();
        }
        one.in_process().broadcast("news/end", END).await.unwrap();
        two.in_process().broadcast("news/end", END).await.unwrap();
        for subscription in subscriptions {
            let seen = all(subscription).await;
            let from = |name| seen.iter().filter(move |(_, data)| data.starts_with(name));
            for name in ["one", "two"] {
                assert!(from(name).eq(&(0..300).map(|n| event(name, n)).collect::<Vec<_>>()));
            }
            assert_eq!(seen.len(), 600);
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn in_process_events_stay_in_the_process() {
    let router = TestRouter::start().await;
    for builder in publishers() {
        let here = builder.connect(&router.unix).await.unwrap();
        let there = Bus::connect(&router.unix).await.unwrap();
        let inside = here.in_process();
        let events_there = there.subscribe("**").await.unwrap();
        let events_here = here.subscribe("**").await.unwrap();
        let events_inside = inside.subscribe("**").await.unwrap();
        assert_eq!(router.status.usage().subscriptions, 2);
        inside.broadcast("private", "private").await.unwrap();
        here.broadcast("public", "public").await.unwrap();
        there.broadcast("theirs", "theirs").await.unwrap();
        here.subscribe("barrier").await.unwrap().unsubscribe().await.unwrap();
        here.broadcast("end", END).await.unwrap();
        let pairs = |names: &[&str]| -> Vec<_> {
            names.iter().map(|&name| (name.to_owned(), name.to_owned())).collect()
        };
        assert_eq!(all(events_there).await, pairs(&["public", "theirs"]));
        assert_eq!(all(events_here).await, pairs(&["private", "public", "theirs"]));
        // Events of other processes reach only subscriptions at the router.
        assert_eq!(all(events_inside).await, pairs(&["private", "public"]));
    }
    router.stop().await;
}
