//! The end of a run: faults stop, and everything must work again. Then all clients leave, and nothing may be left of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gsb_client::{Announcement, Bus, Error};
use gsb_router::Usage;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::calls;
use crate::events;
use crate::order::{Mode, Order, Outcome};
use crate::script::{ADDRESSES, Client, Simulation, TOPICS, choose};
use crate::services::Served;
use crate::world::{Kind, Millis, pause, serves};

/// The longest time of an operation that must end.
const LONGEST: Duration = Duration::from_secs(1000);

/// Longer than any pause between two attempts to connect or to register a name: 30 s by default.
const RETRIED: Millis = 31_000;

/// A service, and the client that serves it.
struct Holder {
    service: usize,
    name: String,
    kind: Kind,
}

impl Simulation {
    /// No promise is broken yet.
    fn is_well(&self) -> bool {
        self.world.facts().problems.is_empty()
    }

    /// Carries out the whole run.
    pub(crate) async fn run(&mut self) {
        self.play().await;
        if self.is_well() {
            self.heal().await;
        }
        if self.is_well() {
            self.probe().await;
        }
        if self.is_well() {
            calls::check(&self.world);
            events::check(&self.world);
            self.end().await;
        }
    }

    /// Lets all pending operations end, and waits until everything is restored.
    async fn heal(&mut self) {
        self.world.log("nothing happens any more");
        self.ensure_router().await;
        self.stop_publishing();
        for task in self.tasks.drain(..) {
            match timeout(LONGEST, task.handle).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_cancelled() => {}
                Ok(Err(error)) => self.world.problem(format_args!("{}: {error}", task.what)),
                Err(_) => self.world.problem(format_args!("{} does not end", task.what)),
            }
        }
        for client in &self.clients {
            let Some(bus) = client.live_bus() else {
                continue;
            };
            let settled = timeout(LONGEST, bus.settled()).await;
            // A client with a limited number of attempts may have given up meanwhile.
            if settled.is_err() || settled.is_ok_and(|it| it.is_err()) && client.lasts {
                let status = bus.status();
                self.world.problem(format_args!("client {}: {status:?}", client.id));
            }
        }
        // A standby gets a name that its owner has unregistered with its next attempt.
        pause(RETRIED).await;
        for _ in 0..100 {
            let all = self.clients.iter().filter_map(|client| client.live_bus());
            if all.into_iter().all(|bus| bus.status().is_settled) {
                return;
            }
            pause(20).await;
        }
        self.world.problem("the clients do not settle");
    }

    /// The services at the router, by name. Each name must have one owner.
    fn holders(&self) -> BTreeMap<String, (usize, Holder)> {
        let mut holders = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        for client in &self.clients {
            if client.live_bus().is_none() {
                continue;
            }
            for served in &client.kept.lock().services {
                let name = served.registration().service_id().to_owned();
                match served.registration().announcement() {
                    Announcement::InProcess => continue,
                    Announcement::Confirmed => {
                        let holder = (client.id, holder(self, served.service()));
                        if let Some((other, _)) = holders.insert(name.clone(), holder) {
                            let line = format!("{name} is held by {other} and {}", client.id);
                            self.world.problem(line);
                        }
                    }
                    Announcement::Refused(Error::AlreadyRegistered { .. }) => {
                        self.world.reach("a name is refused to the last");
                    }
                    other => {
                        let line = format!("client {}: {name} is {other:?}", client.id);
                        self.world.problem(line);
                    }
                }
                wanted.insert(name);
            }
        }
        for name in wanted {
            self.world.expect(holders.contains_key(&name), || format!("{name} has no holder"));
        }
        holders
    }

    /// Checks that everything works again.
    async fn probe(&mut self) {
        let holders = self.holders();
        let before = self.routers.last().map(|router| router.usage()).unwrap_or_default();
        let live: Vec<_> = self.clients.iter().filter(|it| it.live_bus().is_some()).collect();
        let topics = {
            let facts = self.world.facts();
            let ids: BTreeSet<_> = live.iter().map(|client| client.id).collect();
            let all = facts.subscriptions.iter();
            let all = all.filter(|it| it.until.is_none() && !it.in_process);
            let all = all.filter(|it| ids.contains(&it.client));
            all.map(|it| (it.client, it.topic.clone())).collect::<BTreeSet<_>>().len()
        };
        let instances = live.iter().filter(|client| !client.echoes).count();
        let expected = Usage {
            connections: live.len(),
            services: holders.len(),
            subscriptions: topics,
            instances,
            // One for each connection, for its Ping.
            deadlines: live.len(),
            accounts: live.len(),
            ..Usage::default()
        };
        self.world.expect(before == expected, || {
            format!("the router holds {before:?}, not {expected:?}")
        });

        let stranger = self.next_id();
        let builder = Bus::builder().network(self.network.clone());
        let Ok(bus) = builder.connect(crate::script::LABEL).await else {
            return self.world.problem("a newcomer cannot connect");
        };
        for address in ADDRESSES {
            let expected = longest(holders.values().map(|(_, holder)| holder), address);
            self.probe_call(stranger, &bus, address, false, expected).await;
        }
        events::probe(&self.world, stranger, &bus, TOPICS).await;
        bus.close().await;

        // A client's own service has priority, whether it is registered at the router or not.
        let clients = self.clients.clone();
        for _ in 0..6 {
            let client = choose(&mut self.rng, &clients);
            let Some(bus) = client.live_bus() else {
                continue;
            };
            let address = choose(&mut self.rng, ADDRESSES);
            let in_process = self.rng.u8(0..3) == 0;
            let own = self.own_services(&client);
            let expected = match longest(own.iter(), address) {
                None if !in_process => longest(holders.values().map(|(_, it)| it), address),
                own => own,
            };
            self.probe_call(client.id, &bus, address, in_process, expected).await;
        }
    }

    fn own_services(&self, client: &Client) -> Vec<Holder> {
        client.kept.lock().services.iter().map(|served| holder(self, served.service())).collect()
    }

    async fn probe_call(
        &self,
        client: usize,
        bus: &Bus,
        address: &str,
        in_process: bool,
        expected: Option<&Holder>,
    ) {
        let mode = match expected.map(|holder| holder.kind) {
            None | Some(Kind::Reply) => Mode::Call,
            Some(Kind::Stream) => Mode::Stream,
            Some(Kind::Push) => Mode::Push,
        };
        let id = {
            let mut facts = self.world.facts();
            facts.orders.push(Order { in_process, ..Order::new(mode, address) });
            facts.orders.len() - 1
        };
        let line = format!("call {id}: client {client} probes {address}, inside: {in_process}");
        self.world.log(line);
        calls::perform(self.world.clone(), client, bus.clone(), id).await;
        if mode == Mode::Push {
            pause(1000).await;
        }
        let order = self.world.facts().orders[id].clone();
        let is_right = match (&order.outcome, expected) {
            (Some(Outcome::Good), Some(holder)) => order.seen == [holder.service],
            (Some(Outcome::Failed(Error::NoSuchService { .. })), None) => true,
            _ => false,
        };
        self.world.expect(is_right, || {
            let expected = expected.map(|holder| holder.service);
            format!("call {id} was for {expected:?}: {:?}, {:?}", order.seen, order.outcome)
        });
    }

    /// Ends all clients, each in a random way, and checks that nothing is left.
    async fn end(&mut self) {
        self.world.log("all leave");
        for client in std::mem::take(&mut self.clients) {
            if self.rng.bool() {
                // In this case the bus drops the handlers.
                let services = std::mem::take(&mut client.kept.lock().services);
                services.into_iter().for_each(Served::detach);
            }
            let how = self.rng.u8(0..3);
            if how == 0
                && let Some(bus) = client.bus()
            {
                // No handler is running any more.
                let result = bus.shutdown(Duration::from_secs(5)).await;
                let line = || format!("client {} does not shut down: {result:?}", client.id);
                self.world.expect(result.is_ok(), line);
            }
            let bus = client.leave();
            if let Some(bus) = bus.filter(|_| how == 1) {
                bus.close().await;
            }
        }
        // If the router does not read the rest, the client disconnects after a second.
        pause(3000).await;
        for listener in self.listeners.drain(..) {
            self.world.expect(listener.is_finished(), || "a subscription does not end".into());
        }
        let witnesses = self.world.facts().witnesses;
        self.world.expect(witnesses == 0, || format!("{witnesses} handlers are kept"));
        for (at, router) in self.routers.iter().enumerate() {
            let counters = router.counters();
            let seen = counters.pauses.keys().map(|what| format!("the router: {what} wait"));
            let dropped = counters.drops.keys().map(|what| format!("the router drops: {what}"));
            let refused = counters.refusals.keys().map(|what| format!("the router says: {what}"));
            seen.chain(dropped).chain(refused).for_each(|what| self.world.reach(what));
            let too_large = counters.closes.get("frame too large");
            self.world.expect(too_large.is_none(), || "a client has sent too large a frame".into());
            let usage = router.usage();
            let is_empty = usage == Usage::default();
            self.world.expect(is_empty, || format!("router {at} still holds {usage:?}"));
        }
        let connections = self.network.connections();
        self.world.expect(connections == 0, || format!("{connections} connections are open"));
        let left = || Handle::current().metrics().num_alive_tasks();
        let tasks = left();
        let of_router = crate::ROUTER_TASKS;
        self.world.expect(tasks == of_router, || format!("{tasks} tasks, not {of_router}"));
        self.stop_router().await;
        pause(1).await;
        self.world.expect(left() == 0, || format!("{} tasks are left", left()));
    }
}

fn holder(simulation: &Simulation, service: usize) -> Holder {
    let facts = simulation.world.facts();
    let found = &facts.services[service];
    Holder { service, name: found.name.clone(), kind: found.kind }
}

/// The owner of the longest name that an address belongs to.
fn longest<'a>(all: impl Iterator<Item = &'a Holder>, address: &str) -> Option<&'a Holder> {
    all.filter(|holder| serves(&holder.name, address)).max_by_key(|holder| holder.name.len())
}
