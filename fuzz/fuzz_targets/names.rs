//! Service ids, topics, and the maps that look them up, compared with lists that are searched from end to end.
//!
//! Names are valid as rules SV-1, TO-1 and TO-12 say. Two topics overlap if both stand for the same topic without
//! wildcards (rule TO-3). After any number of changes `PrefixMap` finds the longest id (rule SV-3), and `TopicMap` every
//! subscriber with an overlapping topic (rule TO-4).

#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Result, Unstructured};
use gsb_fuzz::input::Script;
use gsb_fuzz::names::{Name, belongs, is_service_id, is_topic, topics_meet};
use gsb_proto::{NameError, PrefixMap, ServiceId, Topic, TopicMap};
use libfuzzer_sys::fuzz_target;

#[derive(Debug)]
enum Input {
    Names(Vec<Name>),
    Services(Vec<ServiceOp>),
    Topics(Vec<TopicOp>),
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match input.int_in_range(0..=2)? {
            0 => Input::Names(Script::arbitrary(input)?.0),
            1 => Input::Services(Script::arbitrary(input)?.0),
            _ => Input::Topics(Script::arbitrary(input)?.0),
        })
    }
}

#[derive(Debug)]
enum ServiceOp {
    Insert(Name, u8),
    Remove(Name),
    Look(Name),
    /// Many ids at once, so that the map grows and shrinks.
    InsertMany(u8),
    RemoveMany(u8),
}

impl<'a> Arbitrary<'a> for ServiceOp {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match input.int_in_range(0..=15)? {
            0..=5 => ServiceOp::Insert(input.arbitrary()?, input.arbitrary()?),
            6..=7 => ServiceOp::Remove(input.arbitrary()?),
            8..=13 => ServiceOp::Look(input.arbitrary()?),
            14 => ServiceOp::InsertMany(input.arbitrary()?),
            _ => ServiceOp::RemoveMany(input.arbitrary()?),
        })
    }
}

#[derive(Debug)]
enum TopicOp {
    Subscribe(Name, u8),
    Unsubscribe(Name, u8),
    Broadcast(Name),
    /// Many topics that begin alike at once, so that the map grows and shrinks.
    SubscribeMany(Name, u8, u8),
    UnsubscribeMany(u8),
}

impl<'a> Arbitrary<'a> for TopicOp {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let subscriber = input.int_in_range(0..=5)?;
        Ok(match input.int_in_range(0..=15)? {
            0..=6 => TopicOp::Subscribe(input.arbitrary()?, subscriber),
            7..=8 => TopicOp::Unsubscribe(input.arbitrary()?, subscriber),
            9 => TopicOp::SubscribeMany(input.arbitrary()?, subscriber, input.arbitrary()?),
            10 => TopicOp::UnsubscribeMany(input.arbitrary()?),
            _ => TopicOp::Broadcast(input.arbitrary()?),
        })
    }
}

fn check_name(text: &str) -> Option<Topic> {
    let (id, topic) = (ServiceId::new(text), Topic::new(text));
    assert_eq!(id.is_ok(), is_service_id(text), "{text:?}");
    assert_eq!(topic.is_ok(), is_topic(text), "{text:?}");
    match &id {
        Ok(id) => assert_eq!(id.as_str(), text),
        Err(NameError::Empty) => assert_eq!(text, ""),
        Err(NameError::TooLong { length }) => assert!(*length == text.len() && *length > 1024),
        Err(NameError::Character { character, at, .. }) => {
            assert_eq!(text[*at..].chars().next(), Some(*character));
            assert!(is_service_id(&text[..*at].replace('/', "a")) || *at == 0, "not the first");
        }
        Err(NameError::EmptySegment { at, .. }) => {
            let (before, after) = text.split_at(*at);
            assert!(before.is_empty() || before.ends_with('/'));
            assert!(after.is_empty() || after.starts_with('/'));
        }
        Err(NameError::TooManySegments { .. }) => panic!("{text:?} is refused as a service id"),
    }
    match (&id, &topic) {
        (Err(id), Err(topic)) => {
            assert_eq!(id.to_string(), topic.to_string());
            assert!(!id.to_string().is_empty());
        }
        (Ok(_), Err(NameError::TooManySegments { segments, limit: 64, .. })) => {
            assert_eq!(*segments, text.trim_start_matches('/').split('/').count());
        }
        (Ok(_), Err(error)) => panic!("{text:?} is refused as a topic only: {error}"),
        (_, Ok(_)) => {}
    }
    let topic = topic.ok()?;
    let is_pattern = text.split('/').any(|segment| segment == "*" || segment == "**");
    assert_eq!(topic.is_pattern(), is_pattern, "{text:?}");
    Some(topic)
}

fn check_names(names: &[Name]) {
    let names = names.iter().take(8);
    let topics: Vec<Topic> = names.filter_map(|name| check_name(&name.0)).collect();
    for a in &topics {
        for b in &topics {
            let meet = a.overlaps(b);
            assert_eq!(meet, b.overlaps(a), "{a} and {b}");
            assert_eq!(meet, topics_meet(a, b), "{a} and {b}");
        }
    }
}

fn check_services(ops: &[ServiceOp]) {
    let mut map = PrefixMap::new();
    let mut plain: BTreeMap<String, u8> = BTreeMap::new();
    let insert = |map: &mut PrefixMap<u8>, plain: &mut BTreeMap<String, u8>, name: &str, value| {
        let Ok(id) = ServiceId::new(name) else {
            return;
        };
        let is_new = !plain.contains_key(name);
        assert_eq!(map.insert(id, value), if is_new { Ok(()) } else { Err(value) });
        plain.entry(name.to_owned()).or_insert(value);
    };
    for op in ops {
        match op {
            ServiceOp::Insert(name, value) => insert(&mut map, &mut plain, &name.0, *value),
            ServiceOp::Remove(name) => {
                assert_eq!(map.remove(&name.0), plain.remove(&name.0));
            }
            ServiceOp::Look(name) => {
                let address = &name.0;
                assert_eq!(map.get(address), plain.get(address));
                let longest = |counts: &dyn Fn(&u8) -> bool| {
                    let found = plain.iter();
                    let found = found.filter(|(id, value)| belongs(address, id) && counts(value));
                    found.max_by_key(|(id, _)| id.len()).map(|(_, value)| value)
                };
                assert_eq!(map.lookup(address), longest(&|_| true), "{address:?}");
                let is_odd = |value: &u8| value % 2 == 1;
                assert_eq!(map.lookup_where(address, is_odd), longest(&is_odd), "{address:?}");
            }
            ServiceOp::InsertMany(count) => {
                for number in 0..*count {
                    insert(&mut map, &mut plain, &format!("a/{number}"), number);
                }
            }
            ServiceOp::RemoveMany(count) => {
                for number in 0..*count {
                    let name = format!("a/{number}");
                    assert_eq!(map.remove(&name), plain.remove(&name));
                }
            }
        }
        assert_eq!((map.len(), map.is_empty()), (plain.len(), plain.is_empty()));
    }
    let mut all: Vec<_> = map.iter().map(|(id, value)| (id.to_string(), *value)).collect();
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(plain));
}

/// A [`TopicMap`], and the same as a list.
#[derive(Default)]
struct Topics {
    map: TopicMap<u8>,
    plain: Vec<(Topic, u8)>,
}

impl Topics {
    fn subscribe(&mut self, name: &str, subscriber: u8) {
        // With more the list would only be slow.
        let Some(topic) = Topic::new(name).ok().filter(|_| self.plain.len() < 150) else {
            return;
        };
        let entry = (topic, subscriber);
        let there = self.plain.contains(&entry);
        assert_eq!(self.map.subscription(&entry.0, subscriber).is_some(), there, "{entry:?}");
        assert_eq!(self.map.subscribe(&entry.0, subscriber).is_none(), there, "{entry:?}");
        if !there {
            self.plain.push(entry);
        }
    }

    fn unsubscribe(&mut self, name: &str, subscriber: u8) {
        let Ok(topic) = Topic::new(name) else {
            return;
        };
        let entry = (topic, subscriber);
        let place = self.map.subscription(&entry.0, subscriber);
        let there = self.plain.iter().position(|other| *other == entry);
        assert_eq!(place.is_some(), there.is_some(), "{entry:?}");
        if let (Some(place), Some(there)) = (place, there) {
            assert!(self.map.unsubscribe(place, subscriber));
            assert!(!self.map.unsubscribe(place, subscriber), "twice");
            self.plain.swap_remove(there);
        }
    }

    fn broadcast(&self, name: &str) {
        let Ok(topic) = Topic::new(name) else {
            return;
        };
        let mut found = vec![7];
        self.map.find(&topic, &mut found);
        let meeting = self.plain.iter().filter(|(other, _)| topics_meet(other, &topic));
        let mut expected: Vec<u8> = meeting.map(|(_, subscriber)| *subscriber).collect();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(found, expected, "{topic} among {:?}", self.plain);
    }

    fn check(&self) {
        let mut topics: Vec<&str> = self.plain.iter().map(|(topic, _)| topic.as_str()).collect();
        topics.sort_unstable();
        topics.dedup();
        let held = (self.map.len(), self.map.is_empty());
        assert_eq!(held, (topics.len(), topics.is_empty()));
    }
}

fn check_topics(ops: &[TopicOp]) {
    let mut topics = Topics::default();
    for op in ops.iter().take(100) {
        match op {
            TopicOp::Subscribe(name, subscriber) => topics.subscribe(&name.0, *subscriber),
            TopicOp::Unsubscribe(name, subscriber) => topics.unsubscribe(&name.0, *subscriber),
            TopicOp::Broadcast(name) => topics.broadcast(&name.0),
            TopicOp::SubscribeMany(name, subscriber, count) => {
                for number in 0..count % 64 {
                    topics.subscribe(&format!("{}/{number}", name.0), *subscriber);
                }
            }
            TopicOp::UnsubscribeMany(count) => {
                for _ in 0..*count {
                    let Some((topic, subscriber)) = topics.plain.first().cloned() else {
                        break;
                    };
                    topics.unsubscribe(topic.as_str(), subscriber);
                }
            }
        }
        topics.check();
    }
    while let Some((topic, subscriber)) = topics.plain.last().cloned() {
        topics.unsubscribe(topic.as_str(), subscriber);
    }
    topics.check();
}

fuzz_target!(|input: Input| match input {
    Input::Names(names) => check_names(&names),
    Input::Services(ops) => check_services(&ops),
    Input::Topics(ops) => check_topics(&ops),
});
