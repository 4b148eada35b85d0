//! A value arrives as it was sent, or its sender gets an error: all types of serde, in each encoding, over a router and
//! within a process.
//!
//! `GSB_VALUES_CASES` is the number of values to try [300], `GSB_VALUES_SEED` repeats a run.

mod value;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};

use gsb_client::{Bus, BusBuilder, Error, FlexBuffers, Json};
use gsb_testkit::TestRouter;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use value::{Color, Double, Flat, Untagged, Value};

/// A caller and a service over a router.
struct Pair {
    caller: Bus,
    /// The bus that serves it.
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
            Err(Error::ServiceFailure { message, .. }) if message.contains("nested") => {
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

/// Values that are easily lost or changed on the way, and whether FlexBuffers and JSON carry them.
fn difficult_values() -> Vec<(Value, bool, bool)> {
    let value = || Box::new(Value::Bool(true));
    let by_text = |keys: &[&str]| -> BTreeMap<String, Value> {
        keys.iter().map(|key| ((*key).to_owned(), Value::Empty)).collect()
    };
    let nested = |depth| (0..depth).fold(Value::Empty, |value, _| Value::List(vec![value]));
    vec![
        (Value::Char('€'), true, true),
        (Value::Char('é'), true, true),
        (Value::Chars(vec!['€', 'a']), true, true),
        (Value::Nested(Some(None)), true, false),
        (Value::Nested(Some(Some(None))), true, false),
        (Value::OptionalUnit(Some(())), true, false),
        (Value::OptionalUnit(None), true, true),
        (Value::Optionals(vec![Some(None), None]), true, false),
        (Value::ByInteger([(-1, Value::Empty)].into()), true, true),
        (Value::ByLargeInteger([(u128::MAX, 1)].into()), true, true),
        (Value::ByBool([(true, Value::Empty)].into()), true, true),
        (Value::ByChar([('€', 1)].into()), true, true),
        (
            Value::ByColor([(Color::Red, Value::Empty), (Color::Odd, Value::Empty)].into()),
            true,
            true,
        ),
        (Value::ByPair([((1, "a".to_owned()), Value::Empty)].into()), true, false),
        (Value::Large(i128::MIN), true, true),
        (Value::Larger { value: u128::MAX }, true, true),
        (Value::LargeIntegers(vec![i128::MAX, 1]), true, true),
        (Value::ByText(by_text(&["a\0b", "a"])), true, true),
        (Value::ByText(by_text(&["a\0b"])), true, true),
        (Value::Bytes(vec![7; 1000]), true, true),
        (Value::Double(Double(f64::NAN)), true, false),
        (Value::Double(Double(f64::INFINITY)), true, false),
        (Value::Double(Double(0.1 + 0.2)), true, true),
        // The key is the name of a field as well.
        (Value::Flat(Flat { first: 1, rest: by_text(&["first"]) }), false, false),
        // Serde decodes these into a type that has no 128-bit integers.
        (
            Value::Untagged(Untagged::Fields { value: Box::new(Value::Large(i128::MIN)) }),
            false,
            false,
        ),
        (Value::Untagged(Untagged::Fields { value: value() }), true, true),
        (nested(60), true, true),
        (nested(200), false, false),
    ]
}

#[tokio::test]
async fn difficult_values_arrive_where_the_documentation_says_so() {
    let router = TestRouter::start().await;
    let flex = Pair::connect(&router, Bus::builder().encoding(FlexBuffers), "/flex").await;
    let json = Pair::connect(&router, Bus::builder().encoding(Json), "/json").await;
    for (value, is_in_flex, is_in_json) in difficult_values() {
        for (name, pair, is_carried) in [("/flex", &flex, is_in_flex), ("/json", &json, is_in_json)]
        {
            let is_sent = pair.try_value(name, &value).await;
            let is_sent = is_sent.unwrap_or_else(|error| panic!("{name}: {error}\n{value:?}"));
            assert_eq!(is_sent, is_carried, "{name}: {value:?}");
        }
    }
    router.stop().await;
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
