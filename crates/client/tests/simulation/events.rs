//! Publishers and subscribers. The events of a publisher are numbered and announced one after the other,
//! so that it is known which of them a subscriber must receive, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use gsb_client::{Announcement, Broadcast, Bus, Error, Subscription};
use tokio::sync::{mpsc, oneshot};

use crate::world::{Facts, Millis, World, kind_of, pause};

/// The longest time from the router to a subscriber: behind large replies over a narrow connection, to a slow consumer.
const JOURNEY: Millis = 20_000;

/// Time between two checks whether a subscription is confirmed.
const LOOK_AGAIN: Millis = 50;

/// The longest time of a broadcast, which waits for a connection, for room in the outbox, and for the router.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct EventFacts {
    publisher: usize,
    topic: String,
    in_process: bool,
    /// A router that was stopping may have forwarded it. It has no connections to clients of the next router.
    may_go_astray: bool,
    started: Millis,
    ended: Millis,
    /// `None` if the publisher did not wait for it.
    outcome: Option<Result<(), Error>>,
}

#[derive(Debug)]
pub(crate) struct SubscriptionFacts {
    pub(crate) client: usize,
    pub(crate) topic: String,
    pub(crate) in_process: bool,
    /// Whether the client receives its own events from the router.
    echoes: bool,
    /// When it was made.
    since: Millis,
    /// When it was dropped, or its end was seen.
    pub(crate) until: Option<Millis>,
    items: Vec<(Millis, Item)>,
}

#[derive(Debug)]
enum Item {
    Event(usize),
    /// The router has confirmed it.
    Confirmed,
    Gap(Error),
}

/// An event that a publisher has to announce.
pub(crate) struct Publish {
    pub(crate) topic: &'static str,
    pub(crate) in_process: bool,
    /// How long the publisher waits for the outcome.
    pub(crate) timeout: Option<Millis>,
}

/// Announces the events that it receives. A client may have a second publisher, for events within the process. With the
/// classic framing its events can overtake those of the first one, which come back from the router.
pub(crate) async fn publish(
    world: Arc<World>,
    client: usize,
    echoes: bool,
    bus: Bus,
    mut orders: mpsc::UnboundedReceiver<Publish>,
) {
    while let Some(Publish { topic, in_process, timeout }) = orders.recv().await {
        let started = world.now();
        let publisher = 2 * client + usize::from(in_process && echoes);
        let id = {
            let mut facts = world.facts();
            let (topic, ended) = (topic.to_owned(), Millis::MAX);
            let may_go_astray = facts.stopping > 0;
            facts.events.push(EventFacts {
                publisher,
                topic,
                in_process,
                may_go_astray,
                started,
                ended,
                outcome: None,
            });
            facts.events.len() - 1
        };
        world.log(format_args!("event {id}: client {client} to {topic}, inside: {in_process}"));
        let from = if in_process { bus.in_process() } else { bus.clone() };
        let announced = from.broadcast(topic, id.to_string());
        let longest = timeout.map_or(LONGEST, Duration::from_millis);
        let outcome = tokio::time::timeout(longest, announced).await.ok();
        let outcome = outcome.map(|outcome| outcome.map(drop));
        drop(from);
        let said = outcome.as_ref().map(|outcome| outcome.as_ref().map_err(Error::to_string));
        world.log(format_args!("event {id}: {said:?}"));
        let kind = match &outcome {
            Some(Ok(())) => "good",
            Some(Err(error)) => kind_of(error),
            None => "dropped",
        };
        world.reach(format_args!("broadcast: {kind}"));
        world.expect(outcome.is_some() || timeout.is_some(), || {
            format!("event {id}: its broadcast never ends")
        });
        let ended = world.now();
        let event = &mut world.facts().events[id];
        (event.ended, event.outcome) = (ended, outcome);
    }
}

/// How a subscription ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    Unsubscribe,
    Drop,
}

/// Subscribes, and records the received events until it is told to stop.
pub(crate) async fn subscribe(
    world: Arc<World>,
    client: usize,
    echoes: bool,
    bus: Bus,
    topic: &'static str,
    slowness: Millis,
    mut stop: oneshot::Receiver<Stop>,
) {
    let subscribed = bus.subscribe(topic).await;
    let in_process = subscribed.as_ref().is_ok_and(is_in_process);
    let mut subscription = match subscribed {
        Ok(subscription) => subscription,
        Err(error) => return world.log(format_args!("client {client}: no {topic}: {error}")),
    };
    let id = {
        let since = world.now();
        let mut facts = world.facts();
        facts.subscriptions.push(SubscriptionFacts {
            client,
            topic: topic.to_owned(),
            in_process,
            echoes,
            since,
            until: None,
            items: Vec::new(),
        });
        facts.subscriptions.len() - 1
    };
    world.log(format_args!("subscription {id}: client {client} to {topic}, inside: {in_process}"));
    let note = |item| {
        world.log(format_args!("subscription {id}: {item:?}"));
        let now = world.now();
        world.facts().subscriptions[id].items.push((now, item));
    };
    let mut is_confirmed = in_process || is_announced(&subscription);
    if is_confirmed {
        note(Item::Confirmed);
    }
    let how = loop {
        let next = tokio::select! {
            biased;
            how = &mut stop => break how.unwrap_or(Stop::Drop),
            next = subscription.next() => next,
            () = pause(LOOK_AGAIN), if !is_confirmed => {
                is_confirmed = is_announced(&subscription);
                if is_confirmed {
                    note(Item::Confirmed);
                }
                continue;
            }
        };
        match next {
            Some(Ok(event)) => note(Item::Event(number(&world, id, &event))),
            Some(Err(error)) => {
                is_confirmed = in_process;
                world.reach(format_args!("gap: {}", kind_of(&error)));
                note(Item::Gap(error));
            }
            None => {
                let after = subscription.next().now_or_never();
                world.expect(matches!(after, Some(None)), || {
                    format!("subscription {id}: it goes on after its end")
                });
                break Stop::Drop;
            }
        }
        pause(slowness).await;
    };
    let now = world.now();
    world.facts().subscriptions[id].until = Some(now);
    world.log(format_args!("subscription {id}: {how:?}"));
    match how {
        Stop::Drop => drop(subscription),
        Stop::Unsubscribe => drop(subscription.unsubscribe().await),
    }
}

fn is_in_process(subscription: &Subscription) -> bool {
    matches!(subscription.announcement(), Announcement::InProcess)
}

fn is_announced(subscription: &Subscription) -> bool {
    matches!(subscription.announcement(), Announcement::Confirmed)
}

/// The publisher and the number of an event.
fn number(world: &World, subscription: usize, event: &Broadcast) -> usize {
    let id = String::from_utf8_lossy(&event.data).parse().unwrap_or(usize::MAX);
    let is_right = {
        let facts = world.facts();
        facts.events.get(id).is_some_and(|facts| facts.topic == event.topic)
    };
    world.expect(is_right, || format!("subscription {subscription}: {event:?} was not announced"));
    id
}

/// Whether two topics or patterns share a topic.
fn meet(a: &[&str], b: &[&str]) -> bool {
    match (a, b) {
        ([], []) => true,
        (["**", rest @ ..], _) => meet(rest, b) || !b.is_empty() && meet(a, &b[1..]),
        (_, ["**", rest @ ..]) => meet(a, rest) || !a.is_empty() && meet(&a[1..], b),
        ([x, a @ ..], [y, b @ ..]) => (x == y || *x == "*" || *y == "*") && meet(a, b),
        _ => false,
    }
}

fn topics_meet(a: &str, b: &str) -> bool {
    meet(&a.split('/').collect::<Vec<_>>(), &b.split('/').collect::<Vec<_>>())
}

/// Checks the events of all subscribers. All events that were under way must have arrived.
pub(crate) fn check(world: &World) {
    let facts = world.facts();
    let mut problems = Vec::new();
    for (id, subscription) in facts.subscriptions.iter().enumerate() {
        let mut checker = Checker::new(&facts, subscription);
        checker.check();
        let lines = checker.problems.into_iter();
        problems.extend(lines.map(|line| format!("subscription {id}: {line}")));
    }
    drop(facts);
    problems.iter().for_each(|line| world.problem(line));
}

struct Checker<'a> {
    events: &'a [EventFacts],
    subscription: &'a SubscriptionFacts,
    calm_but: Option<&'a BTreeSet<usize>>,
    problems: Vec<String>,
}

impl<'a> Checker<'a> {
    fn new(facts: &'a Facts, subscription: &'a SubscriptionFacts) -> Self {
        let (events, calm_but) = (&facts.events[..], facts.calm_but.as_ref());
        Checker { events, subscription, calm_but, problems: Vec::new() }
    }

    fn check(&mut self) {
        let mut latest = BTreeMap::new();
        for (_, item) in &self.subscription.items {
            let Item::Event(id) = item else {
                continue;
            };
            let Some(event) = self.events.get(*id) else {
                continue;
            };
            if let Some(latest) = latest.insert(event.publisher, *id)
                && latest >= *id
            {
                self.problems.push(format!("event {id} comes after event {latest}"));
            }
            if self.is_foreign(event) {
                self.problems.push(format!("event {id} is not for it"));
            }
            if let Some(Err(error @ (Error::NotSent(_) | Error::ShutDown))) = &event.outcome {
                self.problems.push(format!("event {id} has come, its sender was told: {error}"));
            }
        }
        let is_calm = self.calm_but.is_some_and(|but| !but.contains(&self.subscription.client));
        let is_lost = |(_, item): &(_, Item)| matches!(item, Item::Gap(Error::ConnectionLost(_)));
        if is_calm && self.subscription.items.iter().any(is_lost) {
            self.problems.push("nothing was lost, but it was told so".to_owned());
        }
        for (id, event) in self.events.iter().enumerate() {
            if self.must_have(event) && !self.has(id) && !self.is_excused(id, event) {
                self.problems.push(format!("event {id} is missing without a gap"));
            }
        }
    }

    fn has(&self, id: usize) -> bool {
        let items = self.subscription.items.iter();
        items.filter(|(_, item)| matches!(item, Item::Event(found) if *found == id)).count() > 0
    }

    fn is_own(&self, event: &EventFacts) -> bool {
        event.publisher / 2 == self.subscription.client
    }

    fn is_foreign(&self, event: &EventFacts) -> bool {
        let is_inside = event.in_process || self.subscription.in_process;
        !topics_meet(&event.topic, &self.subscription.topic) || is_inside && !self.is_own(event)
    }

    /// Whether an event reaches the subscriber without the router.
    fn is_direct(&self, event: &EventFacts) -> bool {
        let SubscriptionFacts { echoes, in_process, .. } = self.subscription;
        self.is_own(event) && (!echoes || *in_process || event.in_process)
    }

    /// Whether the subscriber existed from the begin of the broadcast to its end.
    fn must_have(&self, event: &EventFacts) -> bool {
        let is_there = match self.is_direct(event) {
            true => self.subscription.since < event.started,
            false => !event.may_go_astray && self.confirmed_before(event).is_some(),
        };
        let is_last = |until| event.ended.saturating_add(JOURNEY) < until;
        is_there
            && matches!(event.outcome, Some(Ok(())))
            && !self.is_foreign(event)
            && self.subscription.until.is_none_or(is_last)
    }

    /// When the subscriber was last known to be connected before the event.
    fn confirmed_before(&self, event: &EventFacts) -> Option<usize> {
        let is_it = |(time, item): &(Millis, Item)| {
            matches!(item, Item::Confirmed) && *time < event.started
        };
        self.subscription.items.iter().rposition(is_it)
    }

    /// Whether there is a gap where the event should be: between those of its publisher before and after
    /// it.
    fn is_excused(&self, id: usize, event: &EventFacts) -> bool {
        let items = &self.subscription.items;
        let of_publisher = |found: &usize| {
            self.events.get(*found).is_some_and(|found| found.publisher == event.publisher)
        };
        let is_earlier = |(_, item): &(Millis, Item)| matches!(item, Item::Event(found) if *found < id && of_publisher(found));
        let is_later = |(_, item): &(Millis, Item)| matches!(item, Item::Event(found) if *found > id && of_publisher(found));
        let confirmed = match self.is_direct(event) {
            true => None,
            false => self.confirmed_before(event),
        };
        let first = items.iter().rposition(is_earlier).max(confirmed).unwrap_or(0);
        let last = items.iter().position(is_later).unwrap_or(items.len());
        let is_gap = |(_, item): &(Millis, Item)| match item {
            Item::Gap(Error::Overflow { .. }) => true,
            // Events within the process are not lost with the connection, unless the bus has ended.
            Item::Gap(_) => !self.is_direct(event),
            _ => false,
        };
        items.get(first..last).is_some_and(|items| items.iter().any(is_gap))
    }
}

/// The live subscriptions at the router that match a topic.
pub(crate) fn concerned(world: &World, topic: &str) -> Vec<usize> {
    let facts = world.facts();
    let all = facts.subscriptions.iter().enumerate();
    let is_it = |it: &SubscriptionFacts| {
        it.until.is_none() && !it.in_process && topics_meet(&it.topic, topic)
    };
    all.filter(|(_, it)| is_it(it)).map(|(id, _)| id).collect()
}

/// Announces an event to each of the topics, and checks that all matching subscriptions get it.
pub(crate) async fn probe(world: &Arc<World>, client: usize, bus: &Bus, topics: &[&'static str]) {
    let first = world.facts().events.len();
    for topic in topics {
        let (orders, received) = mpsc::unbounded_channel();
        let _ = orders.send(Publish { topic, in_process: false, timeout: None });
        drop(orders);
        publish(world.clone(), client, false, bus.clone(), received).await;
        // Each buffer has room for one event.
        pause(1000).await;
    }
    for (id, topic) in (first..).zip(topics) {
        for subscription in concerned(world, topic) {
            let has_it = {
                let facts = world.facts();
                let subscription = &facts.subscriptions[subscription];
                Checker::new(&facts, subscription).has(id)
            };
            let line = || format!("subscription {subscription} does not get event {id}");
            world.expect(has_it, line);
        }
    }
}
