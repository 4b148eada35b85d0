//! The buses of a case, and how a case is run.

use gsb_client::{Bus, Framing};
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

/// The buses of a case. Within a process they are the same bus.
pub(crate) struct World {
    pub(crate) service: Bus,
    pub(crate) caller: Bus,
    place: Place,
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
        let world = World { service: bus.clone(), caller: bus, place };
        return within("the end of the case", case(&world)).await;
    }
    let router = TestRouter::start().await;
    let connect = async |is_old| {
        let framing = if is_old { Framing::Classic } else { Framing::Packet };
        Bus::builder().framing(framing).connect(&router.unix).await.unwrap()
    };
    let service = connect(matches!(place, Place::OldService | Place::BothOld)).await;
    let caller = connect(matches!(place, Place::OldCaller | Place::BothOld)).await;
    let world = World { service, caller, place };
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
