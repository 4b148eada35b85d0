//! The messages of refusals.

#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::*;
use gsb_core::BrokerConfig;
use gsb_proto::quoted::MAX_QUOTED;

/// A character that is escaped: 3 bytes become 8.
const ODD: &str = "\u{e000}";

// Text of a peer is cut before it is escaped: escaping a kilobyte takes a tenth of a millisecond.
#[test]
fn a_refusal_quotes_the_beginning_of_a_long_text() {
    let mut world = World::new(BrokerConfig::default());
    let (peer, other) = (world.peer(), world.peer());
    let long = ODD.repeat(341);
    let bad_character = format!("{}\n", ODD.repeat(340));
    let empty_segment = format!("{}//", ODD.repeat(340));
    world.register(other, &long);
    world.send(peer, call(&long, &long));
    world.subscribe(peer, &long);
    world.sentences.clear();

    for name in [&bad_character, &empty_segment, &long] {
        world.register(peer, name);
    }
    for topic in [&bad_character, &empty_segment, &long] {
        world.subscribe(peer, topic);
    }
    for topic in [&bad_character, &empty_segment] {
        world.broadcast(peer, topic);
    }
    world.send(peer, call(&format!("{ODD}{long}"), "1"));
    // Its id belongs to an open call.
    world.send(peer, call("/anywhere", &long));

    assert_eq!(world.sentences.len(), 10, "{:#?}", world.sentences);
    let most = MAX_QUOTED / ODD.len();
    for sentence in &world.sentences {
        assert_eq!(sentence.matches(r"\u{e000}").count(), most, "{sentence}");
        assert!(sentence.contains("bytes)"), "{sentence}");
    }
    assert!(world.sentences[2].contains("already registered by another connection"));
}

#[test]
fn a_refusal_quotes_a_name_of_usual_length_as_a_whole() {
    let mut world = World::new(BrokerConfig::default());
    let peer = world.peer();
    let name = format!("/{}", "x".repeat(MAX_QUOTED - 1));
    world.register(peer, &name);
    world.register(peer, &name);
    let sentence = world.sentences.last().unwrap();
    assert_eq!(
        *sentence,
        format!("the service id {name:?} is already registered by this connection itself")
    );
}
