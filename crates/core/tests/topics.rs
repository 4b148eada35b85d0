//! Section 4 of docs/protocol.md: subscriptions and broadcasts.

mod common;

use common::*;
use gsb_core::{BrokerConfig, Limits};
use gsb_proto::messages::{BroadcastRequest, Hello};

fn world() -> World {
    World::new(BrokerConfig::default())
}

// Rule TO-1.
#[test]
fn bad_topics_are_refused() {
    let mut world = world();
    let peer = world.peer();
    for topic in ["", "a b", "a//b", "a/", "/"] {
        assert_eq!(world.subscribe(peer, topic), [Seen::Subscribed(400)]);
        assert!(!world.sentences.pop().unwrap().is_empty());
        world.broadcast(peer, topic);
        assert_eq!(world.take(peer), [Seen::Broadcasted(400, 0)]);
        assert!(!world.sentences.pop().unwrap().is_empty());
    }
    for topic in ["a", "/a", "a/*", "**"] {
        assert_eq!(world.subscribe(peer, topic), [Seen::Subscribed(0)]);
    }
}

// Rules TO-2, TO-3, TO-4: each matching subscriber gets a broadcast once, with the topic that it was sent to.
#[test]
fn a_broadcast_reaches_each_matching_connection_once() {
    let mut world = world();
    let (sender, exact, many, other) = (world.peer(), world.peer(), world.peer(), world.peer());
    world.subscribe(sender, "a/b");
    world.subscribe(exact, "a/b");
    for topic in ["a/b", "a/*", "**", "*/b"] {
        world.subscribe(many, topic);
    }
    world.subscribe(other, "a/c");
    world.broadcast(sender, "a/b");
    assert_eq!(world.take(sender), [Seen::Broadcasted(0, 3), Seen::Broadcast(broadcast("a/b"))]);
    assert_eq!(world.take(exact), [Seen::Broadcast(broadcast("a/b"))]);
    assert_eq!(world.take(many), [Seen::Broadcast(broadcast("a/b"))]);
    assert_eq!(world.take(other), []);
    // A pattern reaches all subscriptions that share a topic with it.
    world.broadcast(other, "a/*");
    for peer in [sender, exact, many] {
        assert_eq!(world.take(peer), [Seen::Broadcast(broadcast("a/*"))]);
    }
    assert_eq!(world.take(other), [Seen::Broadcasted(0, 4), Seen::Broadcast(broadcast("a/*"))]);
}

// Rule TO-5: a broadcast is answered whether or not there are subscribers.
#[test]
fn a_broadcast_without_subscribers_is_fine() {
    let mut world = world();
    let peer = world.peer();
    world.broadcast(peer, "a");
    assert_eq!(world.take(peer), [Seen::Broadcasted(0, 0)]);
}

// Rule TO-6.
#[test]
fn the_same_topic_twice_is_refused() {
    let mut world = world();
    let (a, b) = (world.peer(), world.peer());
    assert_eq!(world.subscribe(a, "x/*"), [Seen::Subscribed(0)]);
    assert_eq!(world.subscribe(a, "x/*"), [Seen::Subscribed(400)]);
    assert_eq!(world.subscribe(b, "x/*"), [Seen::Subscribed(0)]);
    assert_eq!(world.unsubscribe(a, "x/*"), [Seen::Unsubscribed(0)]);
    assert_eq!(world.subscribe(a, "x/*"), [Seen::Subscribed(0)]);
}

// Rule TO-7: only exactly the subscribed topic can be unsubscribed.
#[test]
fn unsubscribing_needs_a_subscription() {
    let mut world = world();
    let (a, b) = (world.peer(), world.peer());
    world.subscribe(a, "x/*");
    for (peer, topic) in [(b, "x/*"), (a, "x/y"), (a, "**"), (a, "")] {
        assert_eq!(world.unsubscribe(peer, topic), [Seen::Unsubscribed(404)]);
    }
    assert_eq!(world.unsubscribe(a, "x/*"), [Seen::Unsubscribed(0)]);
    assert_eq!(world.unsubscribe(a, "x/*"), [Seen::Unsubscribed(404)]);
    world.broadcast(b, "x/y");
    assert_eq!(world.take(a), []);
}

// Rule TO-8: one string may be both a service and a topic.
#[test]
fn services_and_topics_do_not_interact() {
    let mut world = world();
    let (service, listener, caller) = (world.peer(), world.peer(), world.peer());
    assert_eq!(world.register(service, "/x"), [Seen::Registered(0)]);
    assert_eq!(world.subscribe(listener, "/x"), [Seen::Subscribed(0)]);
    world.send(caller, call("/x", "1"));
    assert_eq!(world.take(listener), []);
    world.take_call(service);
    world.broadcast(caller, "/x");
    assert_eq!(world.take(service), []);
    assert_eq!(world.take(listener), [Seen::Broadcast(broadcast("/x"))]);
    assert_eq!(world.unsubscribe(listener, "/x"), [Seen::Unsubscribed(0)]);
    assert_eq!(world.unregister(service, "/x"), [Seen::Unregistered(0)]);
}

// Rule TO-9: from its Hello on, a sender does not get its own broadcasts, and gets all others.
#[test]
fn no_echo_spares_a_sender_its_own_broadcasts() {
    let mut world = world();
    let (sender, other) = (world.peer(), world.peer());
    for topic in ["a/b", "a/*"] {
        world.subscribe(sender, topic);
    }
    world.subscribe(other, "**");
    let event = || Seen::Broadcast(broadcast("a/b"));
    world.send(other, Hello::default());
    world.broadcast(sender, "a/b");
    assert_eq!(world.take(sender), [Seen::Broadcasted(0, 2), event()]);
    assert_eq!(world.take(other), [event()]);
    assert_eq!(world.broker.counters().deliveries, 2);

    world.send(sender, Hello { no_echo: true, ..Hello::default() });
    world.broadcast(sender, "a/b");
    assert_eq!(world.take(sender), [Seen::Broadcasted(0, 1)]);
    assert_eq!(world.take(other), [event()]);
    assert_eq!(world.broker.counters().deliveries, 3);

    world.broadcast(other, "a/b");
    assert_eq!(world.take(sender), [event()]);
    assert_eq!(world.take(other), [Seen::Broadcasted(0, 2), event()]);
}

// Rule TO-12.
#[test]
fn topics_have_at_most_64_segments() {
    let mut world = world();
    let (peer, sender) = (world.peer(), world.peer());
    let topic = |segments: usize| vec!["a"; segments].join("/");
    for (topic, code) in [
        (topic(64), 0),
        (topic(65), 400),
        (format!("/{}", topic(64)), 0),
        (format!("/{}", topic(65)), 400),
        (vec!["**"; 65].join("/"), 400),
    ] {
        assert_eq!(world.subscribe(peer, &topic), [Seen::Subscribed(code)], "{topic}");
        world.broadcast(sender, &topic);
        assert_eq!(world.take(sender), [Seen::Broadcasted(code, u32::from(code == 0))], "{topic}");
        let is_received = world.take(peer) == [Seen::Broadcast(broadcast(&topic))];
        assert_eq!(is_received, code == 0, "{topic}");
    }
    for sentence in &world.sentences {
        assert!(sentence.contains("65 segments: a topic may have at most 64"), "{sentence}");
    }
}

// Rule TO-10: a subscription counts as one for every 8 segments or 128 bytes that its topic begins.
#[test]
fn long_topics_count_as_several_subscriptions() {
    let limits = Limits { subscriptions: 10, ..Default::default() };
    let mut world = World::new(BrokerConfig { limits, ..Default::default() });
    let (peer, other) = (world.peer(), world.peer());
    let topic = |segments: usize, last: &str| format!("{}{last}", "*/".repeat(segments - 1));
    for (segments, last, code) in [(64, "a", 0), (17, "c", 400), (16, "b", 0), (1, "b", 400)] {
        assert_eq!(world.subscribe(peer, &topic(segments, last)), [Seen::Subscribed(code)]);
    }
    let sentence = &world.sentences[0];
    for said in ["--max-subscriptions", "10", "counts as 3", "8 segments"] {
        assert!(sentence.contains(said), "{said:?} is not in {sentence:?}");
    }
    // An ended subscription makes room for others.
    for (segments, last) in [(64, "a"), (16, "b")] {
        assert_eq!(world.unsubscribe(peer, &topic(segments, last)), [Seen::Unsubscribed(0)]);
    }
    for (segments, last, code) in [
        (8, "a", 0),
        (9, "a", 0),
        (16, "a", 0),
        (24, "**", 0),
        (17, "a", 400),
        (16, "b", 0),
        (1, "b", 400),
    ] {
        assert_eq!(world.subscribe(peer, &topic(segments, last)), [Seen::Subscribed(code)]);
    }
    assert_eq!(world.broker.usage().subscriptions, 5);
    // By bytes, if that gives the larger number.
    assert_eq!(world.unsubscribe(peer, &topic(24, "**")), [Seen::Unsubscribed(0)]);
    for (length, code) in [(385, 400), (384, 0), (1, 400)] {
        assert_eq!(world.subscribe(peer, &"x".repeat(length)), [Seen::Subscribed(code)]);
    }
    // The limit is per connection, and short topics count as one, with wildcards or without.
    for number in 0..10 {
        assert_eq!(
            world.subscribe(other, &format!("{number}/*/a/**/b/*/*/**")),
            [Seen::Subscribed(0)]
        );
    }
    assert_eq!(world.subscribe(other, "a"), [Seen::Subscribed(400)]);
    world.close(peer);
    world.close(other);
    assert_eq!(world.broker.usage().subscriptions, 0);
}

// Rule CO-6, with more subscriptions than are removed in one step.
#[test]
fn a_connection_with_many_subscriptions_ends_at_once() {
    let mut world = world();
    let (many, few, sender) = (world.peer(), world.peer(), world.peer());
    for number in 0..5000 {
        world.subscribe(many, &format!("t/{number}"));
    }
    world.subscribe(few, "t/*");
    world.subscribe(few, "t/7");
    world.close(many);
    assert_eq!(world.take(many), [Seen::Closed("hung up")]);
    assert_eq!(world.broker.usage().subscriptions, 2);
    for _ in 0..10 {
        world.broadcast(sender, "t/*");
        assert_eq!(world.take(few), [Seen::Broadcast(broadcast("t/*"))]);
        assert_eq!(world.take(many), []);
    }
    // A new connection, which may get the same slot, receives none of them.
    let newcomer = world.peer();
    world.broadcast(sender, "t/*");
    assert_eq!(world.take(newcomer), []);
    assert_eq!(world.subscribe(newcomer, "t/7"), [Seen::Subscribed(0)]);
    world.close(few);
    world.broadcast(sender, "t/*");
    assert_eq!(world.take(newcomer), [Seen::Broadcast(broadcast("t/*"))]);
    assert_eq!(world.broker.usage().subscriptions, 1);
}

// Rule TO-13: copies that are dropped do not count, the sender's own included; it comes after the reply.
#[test]
fn the_reply_says_how_many_receive_a_broadcast() {
    let limits = Limits { queued_bytes: 1000, ..Limits::default() };
    let mut world = World::new(BrokerConfig { limits, ..BrokerConfig::default() });
    let (sender, reader, deaf) = (world.peer(), world.peer(), world.peer());
    for peer in [sender, reader, deaf] {
        world.subscribe(peer, "a");
        world.subscribe(peer, "*");
    }
    world.deaf.insert(deaf);
    let event = BroadcastRequest { data: vec![0; 600].into(), ..broadcast("a") };
    for receivers in [3, 2] {
        world.send(sender, event.clone());
        let own = Seen::Broadcast(event.clone());
        assert_eq!(world.take(sender), [Seen::Broadcasted(0, receivers), own]);
    }
    world.deaf.insert(sender);
    for receivers in [2, 1] {
        world.send(sender, event.clone());
        assert_eq!(world.take(sender)[0], Seen::Broadcasted(0, receivers));
    }
    world.close(reader);
    world.send(sender, event.clone());
    assert_eq!(world.take(sender), [Seen::Broadcasted(0, 0)]);
    // One that has read gets the next one, and knows what it missed.
    world.read_all(sender);
    world.send(sender, event.clone());
    let own = Seen::Broadcast(BroadcastRequest { missed: 2, ..event });
    assert_eq!(world.take(sender), [Seen::Broadcasted(0, 1), own]);
}
