use std::task::{Context, Poll, Waker};

use gsb_proto::messages::RegisterMode;

use super::*;
use crate::error::{Error, LostReason};

const SECOND: Duration = Duration::from_secs(1);

fn received(outcome: &mut oneshot::Receiver<Outcome>) -> Option<Outcome> {
    let mut cx = Context::from_waker(Waker::noop());
    match std::pin::Pin::new(outcome).poll(&mut cx) {
        Poll::Pending => None,
        Poll::Ready(outcome) => Some(outcome.expect("it is told")),
    }
}

/// Handles an answer, and notifies the callers that wait for it.
fn answer(names: &mut Announcements, ask: &NameRequest, outcome: Outcome, now: Instant) -> bool {
    let answered = names.answered(ask, &outcome, now, |refusals| SECOND * (refusals + 1));
    for waiting in answered.waiting {
        let _ = waiting.send(outcome.clone());
    }
    answered.is_retried
}

fn refusal() -> Outcome {
    Err(Error::AlreadyRegistered { service_id: "/a".into(), message: "taken".into() })
}

const KIND: NameKind = NameKind::Service;

/// Terms other than the default ones.
const TERMS: Terms = Terms { mode: RegisterMode::Shared, capacity: 3 };

fn state(names: &Announcements) -> &'static str {
    match names.announcement(KIND, "/a") {
        Announcement::Pending => "pending",
        Announcement::Confirmed => "confirmed",
        Announcement::Refused(_) => "refused",
        Announcement::Ended => "ended",
        Announcement::InProcess => "in process",
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_for_once_and_all_callers_get_the_answer() {
    let mut names = Announcements::default();
    let (ask, mut first) = names.add(KIND, "/a", TERMS, true);
    let ask = ask.expect("it is asked for");
    let (again, mut second) = names.add(KIND, "/a", TERMS, true);
    assert_eq!(again, None);
    assert!(received(&mut first).is_none() && !names.is_settled());
    assert!(!answer(&mut names, &ask, Ok(()), Instant::now()));
    assert!(matches!(received(&mut first), Some(Ok(()))));
    assert!(matches!(received(&mut second), Some(Ok(()))));
    assert!(matches!(received(&mut names.add(KIND, "/a", TERMS, true).1), Some(Ok(()))));
    assert!(names.is_settled());
    assert!(names.remove(KIND, "/a").0, "the router has to be told");
    assert!(!names.remove(KIND, "/a").0);
    assert_eq!(state(&names), "ended");
}

#[tokio::test(start_paused = true)]
async fn a_new_name_that_is_refused_is_removed() {
    let mut names = Announcements::default();
    let (ask, mut outcome) = names.add(KIND, "/a", TERMS, true);
    let ask = ask.expect("it is asked for");
    assert!(!answer(&mut names, &ask, refusal(), Instant::now()));
    assert!(matches!(received(&mut outcome), Some(Err(Error::AlreadyRegistered { .. }))));
    assert_eq!(state(&names), "ended");
    assert!(names.is_settled() && names.next_retry().is_none());
    assert!(names.add(KIND, "/a", TERMS, true).0.is_some(), "it can be asked for again");
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_does_not_count_for_a_new_request() {
    let mut names = Announcements::default();
    let old = names.add(KIND, "/a", TERMS, true).0.expect("it is asked for");
    let (must_tell, waiting) = names.remove(KIND, "/a");
    assert!(must_tell && waiting.len() == 1);
    let (new, mut outcome) = names.add(KIND, "/a", TERMS, true);
    answer(&mut names, &old, refusal(), Instant::now());
    assert!(received(&mut outcome).is_none());
    answer(&mut names, &new.expect("it is asked for"), Ok(()), Instant::now());
    assert!(matches!(received(&mut outcome), Some(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn a_kept_name_is_restored_and_retried_with_growing_pauses() {
    let mut names = Announcements::default();
    let (ask, mut outcome) = names.add(KIND, "/a", TERMS, false);
    assert_eq!(ask, None);
    assert!(matches!(received(&mut outcome), Some(Ok(()))), "there is no connection");
    assert_eq!(state(&names), "pending");

    let mut now = Instant::now();
    let asks = names.connected();
    assert_eq!(asks.len(), 1);
    for refusals in 1..=3 {
        let ask = if refusals == 1 { asks[0].clone() } else { names.due(now)[0].clone() };
        assert!(answer(&mut names, &ask, refusal(), now));
        assert_eq!(state(&names), "refused");
        let refused = names.refused();
        let first = refused.iter().next().expect("it is refused");
        assert_eq!((first.refusals, first.retry_in), (refusals, SECOND * refusals));
        assert_eq!(names.refusals(), 1, "it is the same refusal as before");
        assert!(names.is_settled(), "there is an answer");
        assert!(names.due(now).is_empty());
        now += SECOND * refusals;
        assert_eq!(names.next_retry(), Some(now));
    }
    let ask = names.due(now)[0].clone();
    let other = Error::NameRefused { name: "/a".into(), message: "there are too many".into() };
    answer(&mut names, &ask, Err(other), now);
    assert_eq!(names.refusals(), 2, "it is refused for another reason");
    now += SECOND * 4;
    let ask = names.due(now)[0].clone();
    assert_eq!(state(&names), "refused", "until the router says otherwise");
    assert!(names.is_settled());
    answer(&mut names, &ask, Ok(()), now);
    assert_eq!(state(&names), "confirmed");
    assert!(names.refused().is_empty());
    assert_eq!(names.refusals(), 3);
}

#[tokio::test(start_paused = true)]
async fn all_services_are_confirmed_when_the_router_has_confirmed_each() {
    let mut names = Announcements::default();
    assert!(names.all_services_confirmed(), "there is none");
    let now = Instant::now();
    let _ = (names.add(KIND, "/a", TERMS, false), names.add(KIND, "/b", TERMS, false));
    let _ = names.add(NameKind::Topic, "t", TERMS, false);
    assert!(!names.all_services_confirmed());
    let asks = names.connected();
    answer(&mut names, &asks[0], Ok(()), now);
    answer(&mut names, &asks[1], refusal(), now);
    answer(&mut names, &asks[2], refusal(), now);
    assert!(names.is_settled() && !names.all_services_confirmed());
    let again = names.due(now + SECOND * 9);
    let service = again.iter().find(|ask| ask.kind == KIND).expect("it is asked for again");
    assert!(asks.iter().chain(&again).all(|ask| ask.terms == TERMS));
    assert!(!names.all_services_confirmed());
    answer(&mut names, service, Ok(()), now);
    assert!(names.all_services_confirmed(), "topics do not count");

    names.disconnected();
    assert!(!names.all_services_confirmed());
    for ask in names.connected() {
        answer(&mut names, &ask, Ok(()), now);
    }
    assert!(names.all_services_confirmed());
    // A new service is not confirmed yet. A removed one does not count.
    let (ask, _) = names.add(KIND, "/c", TERMS, true);
    assert!(!names.all_services_confirmed());
    answer(&mut names, &ask.expect("it is asked for"), refusal(), now);
    assert!(names.all_services_confirmed(), "it is not kept");
    for name in ["/a", "/b"] {
        names.remove(KIND, name);
        assert!(names.all_services_confirmed());
    }
}

// The router never answers, and the program times out and asks again.
#[tokio::test(start_paused = true)]
async fn callers_that_no_longer_wait_do_not_pile_up() {
    let mut names = Announcements::default();
    let first = names.add(NameKind::Topic, "t", TERMS, true);
    for _ in 0..10_000 {
        drop(names.add(NameKind::Topic, "t", TERMS, true));
    }
    let (_, waiting) = names.remove(NameKind::Topic, "t");
    assert!(waiting.len() < 100, "{} wait", waiting.len());
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_keeps_all_names() {
    let mut names = Announcements::default();
    let (_, mut asked) = names.add(KIND, "/asked", TERMS, true);
    let (ask, _) = names.add(KIND, "/confirmed", TERMS, true);
    answer(&mut names, &ask.expect("it is asked for"), Ok(()), Instant::now());
    for waiting in names.disconnected() {
        let _ = waiting.send(Ok(()));
    }
    assert!(matches!(received(&mut asked), Some(Ok(()))));
    assert!(!names.remove(KIND, "/confirmed").0, "the router need not be told");
    let names_again: Vec<_> = names.connected().into_iter().map(|ask| ask.name).collect();
    assert_eq!(names_again, ["/asked"]);
    let (_, mut waits) = names.add(NameKind::Topic, "t", TERMS, true);
    for waiting in names.end() {
        let _ = waiting.send(Err(Error::NotSent(LostReason::Closed)));
    }
    assert!(received(&mut waits).is_some_and(|outcome| outcome.is_err()));
    assert!(names.is_settled());
}

#[tokio::test(start_paused = true)]
async fn a_refused_name_that_is_removed_is_not_asked_for_again() {
    let mut names = Announcements::default();
    let _ = names.add(KIND, "/a", TERMS, false);
    let ask = names.connected()[0].clone();
    answer(&mut names, &ask, refusal(), Instant::now());
    assert!(!names.remove(KIND, "/a").0);
    assert!(names.next_retry().is_none());
    assert!(names.due(Instant::now() + SECOND * 9).is_empty());
}
