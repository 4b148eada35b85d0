//! A value arrives as it was sent, or its sender is told that it cannot: whatever serde knows, in each
//! encoding, over a router as within a process.
//!
//! `GSB_VALUES_CASES` says how many values are tried [300], `GSB_VALUES_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "values_arrive/value.rs"]
mod value;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};

use gsb_client::{Bus, BusBuilder, Error, FlexBuffers, Json};
use gsb_testkit::TestRouter;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use value::Value;

/// A caller and a service that is a router away.
struct Pair {
    caller: Bus,
    /// Whose bus it is bound on.
    service: Bus,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Pair {
    async fn connect(router: &TestRouter, builder: BusBuilder, name: &str) -> Self {
        let service = builder.clone().connect(&router.unix).await.unwrap();
        let caller = builder.connect(&router.unix).await.unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let keep = received.clone();
        let echo = move |value: Value| {
            keep.lock().unwrap().push(value.clone());
            async { Ok(value) }
        };
        service.bind(name, echo).await.unwrap().detach();
        Pair { caller, service, received }
    }

    /// Whether the value can be sent.
    async fn try_value(&self, name: &str, value: &Value) -> Result<bool, TestCaseError> {
        let answer = self.service.service(name).call(value.clone()).await;
        prop_assert_eq!(answer, Ok(Ok(value.clone())), "within the process");
        prop_assert_eq!(self.take(), [value.clone()]);

        let answer = self.caller.service(name).call(value.clone()).await;
        let received = self.take();
        match answer {
            Ok(answer) => {
                prop_assert_eq!(received, [value.clone()], "the message");
                prop_assert_eq!(answer, Ok(value.clone()), "the answer");
                Ok(true)
            }
            Err(Error::Encoding { .. }) => {
                prop_assert!(received.is_empty(), "it was sent nevertheless");
                Ok(false)
            }
            // The answer is one level deeper, in `Ok`.
            Err(Error::ServiceFailure { message, .. }) if message.contains("inside each other") => {
                prop_assert_eq!(received, [value.clone()], "the message");
                Ok(true)
            }
            Err(error) => {
                prop_assert!(false, "{error}");
                Ok(false)
            }
        }
    }

    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.received.lock().unwrap())
    }
}

fn setting(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

#[test]
fn any_value_arrives_or_its_sender_is_told() {
    let cases = u32::try_from(setting("GSB_VALUES_CASES").unwrap_or(300)).unwrap();
    let seed = setting("GSB_VALUES_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    println!("GSB_VALUES_CASES={cases} GSB_VALUES_SEED={seed}");
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let spread = u128::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, &spread.to_le_bytes());

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let router = runtime.block_on(TestRouter::start());
    let pairs = runtime.block_on(async {
        let flex = Pair::connect(&router, Bus::builder().encoding(FlexBuffers), "/flex").await;
        let json = Pair::connect(&router, Bus::builder().encoding(Json), "/json").await;
        [("/flex", flex), ("/json", json)]
    });
    let mut sent = [0, 0];
    let sent = std::cell::Cell::from_mut(&mut sent);
    let result = TestRunner::new_with_rng(config, rng).run(&value::value(), |value| {
        for (at, (name, pair)) in pairs.iter().enumerate() {
            let is_sent = runtime.block_on(pair.try_value(name, &value))?;
            let sent = &sent.as_array_of_cells()[at];
            sent.set(sent.get() + u32::from(is_sent));
        }
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("{reason}"),
        Err(TestError::Fail(reason, value)) => panic!("{reason}\n{value:?}"),
    }
    let [flex, json] = sent.get();
    println!("of {cases} values FlexBuffers has sent {flex}, and JSON {json}");
    assert!(flex >= cases / 2 && json >= cases / 3, "{flex} and {json} of {cases}");
    runtime.block_on(router.stop());
}
