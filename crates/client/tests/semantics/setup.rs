//! The buses of a case, and how a case is run.

use gsb_client::{Address, Bus, Framing};
use gsb_testkit::{TestRouter, within};

/// Where the service and the caller of a case are. A bus of level 0 has the classic framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    InProcess,
    Router,
    OldCaller,
    OldService,
    BothOld,
}

impl Place {
    fn service_is_old(self) -> bool {
        matches!(self, Place::OldService | Place::BothOld)
    }

    fn caller_is_old(self) -> bool {
        matches!(self, Place::OldCaller | Place::BothOld)
    }
}

async fn connect(router: &Address, is_old: bool) -> Bus {
    let framing = if is_old { Framing::Classic } else { Framing::Packet };
    Bus::builder().framing(framing).connect(router).await.unwrap()
}

/// The buses of a case. Within a process they are the same bus.
pub(crate) struct World {
    pub(crate) service: Bus,
    pub(crate) caller: Bus,
    place: Place,
    router: Option<Address>,
}

/// How a case ends at each place, if it does not end everywhere in the same way.
pub(crate) struct Expected<T> {
    pub(crate) in_process: T,
    pub(crate) router: T,
    pub(crate) old_caller: T,
    pub(crate) old_service: T,
    pub(crate) both_old: T,
}

impl World {
    /// A bus like the one of the service, in another process. Within a process it is the same bus.
    pub(crate) async fn second_service(&self) -> Bus {
        match &self.router {
            Some(router) => connect(router, self.place.service_is_old()).await,
            None => self.service.clone(),
        }
    }

    pub(crate) fn expect<T: Copy>(&self, expected: &Expected<T>) -> T {
        match self.place {
            Place::InProcess => expected.in_process,
            Place::Router => expected.router,
            Place::OldCaller => expected.old_caller,
            Place::OldService => expected.old_service,
            Place::BothOld => expected.both_old,
        }
    }
}

/// Runs a case.
pub(crate) async fn run(place: Place, case: impl AsyncFnOnce(&World)) {
    if place == Place::InProcess {
        let bus = Bus::local();
        let world = World { service: bus.clone(), caller: bus, place, router: None };
        return within("the end of the case", case(&world)).await;
    }
    let router = TestRouter::start().await;
    let service = connect(&router.unix, place.service_is_old()).await;
    let caller = connect(&router.unix, place.caller_is_old()).await;
    let world = World { service, caller, place, router: Some(router.unix.clone()) };
    within("the end of the case", case(&world)).await;
    // Without waiting for calls that do not end.
    router.kill().await;
}

/// Makes a test for each case and each place.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {$(
        mod $case {
            use crate::setup::{Place, run};

            #[tokio::test]
            async fn in_process() {
                run(Place::InProcess, super::$case).await;
            }

            #[tokio::test]
            async fn over_a_router() {
                run(Place::Router, super::$case).await;
            }

            #[tokio::test]
            async fn with_an_old_caller() {
                run(Place::OldCaller, super::$case).await;
            }

            #[tokio::test]
            async fn with_an_old_service() {
                run(Place::OldService, super::$case).await;
            }

            #[tokio::test]
            async fn with_both_old() {
                run(Place::BothOld, super::$case).await;
            }
        }
    )*};
}
