//! Registering services and subscribing to topics.

use std::sync::Arc;

use gsb_proto::Topic;
use gsb_proto::messages::RegisterMode;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::Engine;
use crate::engine::deferred::Deferred;
use crate::engine::queue::Queue;
use crate::engine::request::Outcome;
use crate::engine::scope::Scope;
use crate::engine::service_entry::ServiceEntry;
use crate::engine::state::{Phase, State};
use crate::engine::terms::Terms;
use crate::error::{Error, LostReason};
use crate::event::Broadcast;
use crate::status::{Announcement, NameKind};
use crate::timeouts::with_timeout;

/// The router's answer to a request.
type Answer = oneshot::Receiver<Outcome>;

impl Engine {
    /// Makes a service known here and to the router. Calls may arrive before this returns. Without a connection
    /// it returns at once, and the router is told when there is one.
    pub(crate) async fn register(&self, service: &Arc<ServiceEntry>) -> Outcome {
        let service_id = service.id.as_str();
        let answer = self.change(|state, deferred| {
            state.check_new()?;
            state.add_service(service)?;
            Ok::<_, Error>(match (service.scope, &state.phase) {
                (Scope::InProcess, _) | (_, Phase::InProcess) => None,
                _ => Some(state.add_name(NameKind::Service, service_id, service.terms(), deferred)),
            })
        })?;
        self.services_changed.notify_waiters();
        let outcome = self.confirmed(answer, service_id).await;
        // A router that answers late may still register the name: the registration takes it back when it is dropped.
        if !matches!(outcome, Ok(()) | Err(Error::Timeout { .. })) {
            self.change(|state, deferred| state.remove_service(service, deferred));
        }
        outcome
    }

    /// Unregisters a service here and at the router. The call does so; the returned future only waits for the
    /// router's answer.
    pub(crate) fn unregister<'a>(
        &'a self,
        service: &'a Arc<ServiceEntry>,
    ) -> impl Future<Output = Outcome> + use<'a> {
        let answer = self.change(|state, deferred| unregister(state, service, deferred));
        self.confirmed(answer, service.id.as_str())
    }

    /// [`unregister`](Engine::unregister) for destructors.
    pub(crate) fn unregister_in_destructor(&self, service: &Arc<ServiceEntry>) {
        self.change_in_destructor(|state, deferred| drop(unregister(state, service, deferred)));
    }

    /// Whether the router knows a name.
    pub(crate) fn announcement(&self, kind: NameKind, name: &str) -> Announcement {
        let state = self.state.lock();
        match state.phase {
            Phase::InProcess => Announcement::InProcess,
            _ => state.announcements.announcement(kind, name),
        }
    }

    /// Adds a subscription, which receives events at once. The returned future waits until the router knows the
    /// topic, if there is a connection.
    pub(crate) fn subscribe<'a>(
        &'a self,
        topic: &'a Topic,
        queue: Arc<Queue<Broadcast>>,
        scope: Scope,
    ) -> Result<(u64, impl Future<Output = Outcome> + use<'a>), Error> {
        let (key, answer) = self.change(|state, deferred| {
            state.check_new()?;
            let key = state.subscriptions.add(topic, queue, scope);
            let answer = match (scope, &state.phase) {
                (Scope::InProcess, _) | (_, Phase::InProcess) => None,
                _ => {
                    let (kind, terms) = (NameKind::Topic, Terms::default());
                    Some(state.add_name(kind, topic.as_str(), terms, deferred))
                }
            };
            Ok::<_, Error>((key, answer))
        })?;
        Ok((key, self.confirmed(answer, topic.as_str())))
    }

    /// Ends a subscription, here and at the router if this was the last one for its topic. The call does so; the
    /// returned future only waits for the router's answer.
    pub(crate) fn unsubscribe<'a>(
        &'a self,
        topic: &'a Topic,
        key: u64,
    ) -> impl Future<Output = Outcome> + use<'a> {
        let answer = self.change(|state, deferred| unsubscribe(state, topic, key, deferred));
        self.confirmed(answer, topic.as_str())
    }

    /// [`unsubscribe`](Engine::unsubscribe) for destructors.
    pub(crate) fn unsubscribe_in_destructor(&self, topic: &Topic, key: u64) {
        self.change_in_destructor(|state, deferred| drop(unsubscribe(state, topic, key, deferred)));
    }

    /// Asks the router again for refused names whose pause is over. Returns when the next pause ends.
    fn retry_names(&self) -> Option<Instant> {
        self.change(|state, deferred| {
            for request in state.announcements.due(Instant::now()) {
                state.announce(request, deferred);
            }
            state.announcements.next_retry()
        })
    }

    /// Asks the router again for refused names, each after its pause, for as long as it is polled.
    pub(crate) async fn keep_retrying(&self) {
        loop {
            let changed = self.retry.notified();
            match self.retry_names() {
                Some(next) => {
                    let _ = tokio::time::timeout_at(next, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Waits for the router's answer, if there is one to wait for.
    async fn confirmed(&self, answer: Option<Answer>, target: &str) -> Outcome {
        match answer {
            Some(answer) => self.answer(answer, target).await,
            None => Ok(()),
        }
    }

    /// Waits for the router's answer to a request about `target`.
    pub(crate) async fn answer<T>(
        &self,
        answer: oneshot::Receiver<Result<T, Error>>,
        target: &str,
    ) -> Result<T, Error> {
        let outcome = async {
            // The sender is dropped without an answer when the request was undone.
            answer.await.unwrap_or(Err(Error::ConnectionLost(LostReason::Closed)))
        };
        with_timeout(Some(self.options.request_timeout), target, outcome).await
    }
}

fn unregister(
    state: &mut State,
    service: &Arc<ServiceEntry>,
    deferred: &mut Deferred,
) -> Option<Answer> {
    let must_tell = state.remove_service(service, deferred) && service.scope == Scope::Everywhere;
    let has_successor = service.terms().mode != RegisterMode::Exclusive;
    let handles_calls = has_successor.then(|| service.clone());
    must_tell
        .then(|| state.remove_name(NameKind::Service, service.id.as_str(), handles_calls, deferred))
}

fn unsubscribe(
    state: &mut State,
    topic: &Topic,
    key: u64,
    deferred: &mut Deferred,
) -> Option<Answer> {
    let was_last = state.subscriptions.remove(topic, key);
    was_last.then(|| state.remove_name(NameKind::Topic, topic.as_str(), None, deferred))
}
