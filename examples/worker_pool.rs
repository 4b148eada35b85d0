//! A pool of workers that share one name, and a caller that gives them work.
//!
//! Start `worker_pool worker` in two terminals or more, and then `worker_pool caller`.

use std::time::Duration;

use futures::future::join_all;
use gsb_client::{Bus, Call, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => work().await,
        Some("caller") => call().await,
        _ => {
            eprintln!("usage: worker_pool worker | caller");
            std::process::exit(2);
        }
    }
}

/// Takes two calls at a time. The router gives each call to the worker with the fewest open calls.
async fn work() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let name = format!("worker {}", std::process::id());
    let work = move |_: Call| {
        let name = name.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(name)
        }
    };
    let _worker = bus.register("/work", work).shared().capacity(2).await?;
    println!("working");
    bus.closed().await
}

/// Makes four calls at once, and repeats those for which no worker has room.
async fn call() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let call = async |number: usize| loop {
        match bus.call("/work", number.to_string()).await {
            Err(Error::Busy { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            result => return result,
        }
    };
    for (number, reply) in join_all((1..=4).map(call)).await.into_iter().enumerate() {
        println!("task {}: {}", number + 1, String::from_utf8_lossy(&reply?));
    }
    Ok(())
}
