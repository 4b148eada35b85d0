//! A router is killed and restarted ten times beside a service and its callers: each call ends once, and clients make
//! the service callable again after each restart.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gsb_client::{Bus, Call, Error};
use gsb_testkit::{RouterProcess, TIMEOUT, within};

/// How long a router runs before it is killed. It is so short that the pauses of clients would grow if they counted it
/// as a refused connection.
const UPTIME: Duration = Duration::from_millis(50);

/// How often each payload was handled.
type Handled = Arc<Mutex<HashMap<Bytes, u32>>>;

/// Makes calls until the task is aborted, and counts the outcomes.
async fn call_on(
    bus: Bus,
    name: &'static str,
    handled: Handled,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
) {
    let endpoint = bus.endpoint("/echo").wait_for_router(2 * TIMEOUT);
    for number in 0.. {
        let data = Bytes::from(format!("{name} {number}"));
        let result = within("the end of a call", endpoint.call(data.clone())).await;
        let times = handled.lock().unwrap().remove(&data).unwrap_or(0);
        let outcome = match result {
            Ok(reply) => {
                assert_eq!(reply, data);
                assert_eq!(times, 1, "{data:?} was answered");
                Outcome::Answered
            }
            // The router was killed. The service may have received the call or not.
            Err(Error::ConnectionLost(_)) => {
                assert!(times <= 1, "{data:?} was handled {times} times");
                Outcome::Lost
            }
            // The caller reconnected before the service.
            Err(Error::NoSuchService { .. }) => {
                assert_eq!(times, 0, "{data:?} was refused");
                Outcome::Refused
            }
            Err(error) => panic!("{data:?}: {error}"),
        };
        outcomes.lock().unwrap().push(outcome);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered,
    Lost,
    Refused,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_callable_after_each_of_ten_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", directory.path().join("gsb.sock").display());
    let start = || RouterProcess::start(env!("CARGO_BIN_EXE_router"), ["-l", &url], &[]);
    let mut router = start().await;

    let service = Bus::connect(url.as_str()).await.unwrap();
    let handled = Handled::default();
    let count = handled.clone();
    let echo = move |call: Call| {
        *count.lock().unwrap().entry(call.data.clone()).or_default() += 1;
        async move { Ok(call.data) }
    };
    service.register("/echo", echo).await.unwrap().detach();
    let caller = Bus::connect(url.as_str()).await.unwrap();
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let calling = tokio::spawn(call_on(caller.clone(), "call", handled.clone(), outcomes.clone()));

    let probe = caller.endpoint("/echo").wait_for_router(2 * TIMEOUT);
    for restart in 1..=10 {
        tokio::time::sleep(UPTIME).await;
        router.process.kill().await;
        router = start().await;
        let started = Instant::now();
        let callable = async {
            for number in 0.. {
                let data = format!("probe {restart} {number}");
                match probe.call(data.clone()).await {
                    Ok(reply) => return assert_eq!(reply, data),
                    // Until the service has reconnected, too.
                    Err(Error::NoSuchService { .. } | Error::ConnectionLost(_)) => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        within("the service", callable).await;
        println!("restart {restart}: callable after {:.2} s", started.elapsed().as_secs_f64());
        assert!(!calling.is_finished());
    }
    calling.abort();
    assert!(calling.await.unwrap_err().is_cancelled());
    let outcomes = outcomes.lock().unwrap();
    let times = |wanted| outcomes.iter().filter(|&&outcome| outcome == wanted).count();
    let (lost, refused) = (times(Outcome::Lost), times(Outcome::Refused));
    println!("{} answered, {lost} lost, {refused} refused", times(Outcome::Answered));
    assert!(times(Outcome::Answered) > 0);
    // One call at a time is in flight, and it is not repeated.
    assert!(lost <= 10, "{lost} calls were lost in ten restarts");
}
