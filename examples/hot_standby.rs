//! A service with a hot standby, and its caller.
//!
//! Start `hot_standby service` in two terminals, and `hot_standby caller` in a third. Stop the first service with Ctrl-C:
//! the second one takes over at once, and no call of the caller fails.

use std::time::Duration;

use gsb_client::{Bus, Call, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    match std::env::args().nth(1).as_deref() {
        Some("service") => serve().await,
        Some("caller") => call().await,
        _ => {
            eprintln!("usage: hot_standby service | caller");
            std::process::exit(2);
        }
    }
}

async fn serve() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let answer = |_: Call| async { Ok(format!("process {}", std::process::id())) };
    let _service = bus.register("/ledger", answer).standby().await?;
    println!("ready");
    tokio::select! {
        ended = bus.closed() => ended,
        // Gives the name back, and waits for the running calls.
        _ = tokio::signal::ctrl_c() => bus.shutdown(Duration::from_secs(5)).await,
    }
}

/// Prints the process that answers whenever it is another one.
async fn call() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let timeout = Duration::from_secs(30);
    let ledger = bus.endpoint("/ledger").wait_for_router(timeout).wait_for_service(timeout);
    let mut active = String::new();
    loop {
        let reply = ledger.call("").await?;
        let now = String::from_utf8_lossy(&reply);
        if now != active {
            active = now.into_owned();
            println!("answered by {active}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
