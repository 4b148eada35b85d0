//! Registering and unregistering the same name reaches the router in the order of the calls, whichever tasks make them, and
//! even if no task waits for the answer.

use futures::poll;
use gsb_client::{Bus, Call, Error};
use gsb_testkit::{TestRouter, within};

const ROUNDS: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tasks_on_two_threads() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let tasks = [0, 1].map(|_| {
        let bus = bus.clone();
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let subscription = bus.subscribe("t").await.unwrap();
                subscription.unsubscribe().await.unwrap();
                match bus.register("/t", |_: Call| async { Ok("") }).await {
                    Ok(registration) => registration.unregister().await.unwrap(),
                    // The other task has registered the name, and has not unregistered it.
                    Err(Error::AlreadyRegistered { message, .. }) => {
                        assert!(message.starts_with("this process"), "{message}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for task in tasks {
        within("the other task", task).await.unwrap();
    }
    let usage = router.status.usage();
    assert_eq!((usage.subscriptions, usage.services), (0, 0));
    router.stop().await;
}

#[tokio::test]
async fn a_name_whose_registration_is_dropped() {
    let router = TestRouter::start().await;
    let bus = Bus::connect(&router.unix).await.unwrap();
    let handler = |_: Call| async { Ok("") };
    for polled in [false, true] {
        let mut unregister = Box::pin(bus.register("/t", handler).await.unwrap().unregister());
        let mut unsubscribe = Box::pin(bus.subscribe("t").await.unwrap().unsubscribe());
        if polled {
            assert!(poll!(&mut unregister).is_pending());
            assert!(poll!(&mut unsubscribe).is_pending());
        }
        drop((unregister, unsubscribe));
        bus.register("/t", handler).await.unwrap().unregister().await.unwrap();
        bus.subscribe("t").await.unwrap().unsubscribe().await.unwrap();
    }
    router.stop().await;
}
