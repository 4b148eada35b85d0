//! A long-running service: it can start before the router, survives its restarts, and shuts down gracefully.
//!
//! Start it twice to see a standby: the router refuses the name of the second one, which keeps asking after growing
//! pauses of up to 30 seconds. When the first one stops, the second takes over. It runs on one thread, so that the name is
//! registered before the bus connects: a bus that is connected would fail if the name is taken.

use std::time::{Duration, SystemTime};

use gsb_client::{Address, Bus, Call, Connection, Error, Status, StatusWatch};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let bus = Bus::builder().name("clock").connect_lazy(Address::from_environment()?)?;
    // The watch is made before the service, so that it sees all changes.
    let watch = bus.watch();
    let clock = |_: Call| async {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(since.as_secs().to_string())
    };
    // From now on callers in this process find the service. The status shows whether those in other processes do.
    let _clock = bus.register("/clock", clock).await?;

    tokio::select! {
        // In this order, so that Ctrl-C is handled before the first line is printed.
        biased;
        ended = bus.closed() => ended,
        _ = tokio::signal::ctrl_c() => bus.shutdown(Duration::from_secs(5)).await,
        () = report(watch) => bus.closed().await,
    }
}

/// Prints each change of the status.
async fn report(mut watch: StatusWatch) {
    let mut printed = String::new();
    while let Some(status) = watch.changed().await {
        let line = describe(&status);
        if line != printed {
            println!("{line}");
            printed = line;
        }
    }
}

fn describe(status: &Status) -> String {
    match &status.connection {
        Connection::Connected(_) if status.is_serving() => "serving /clock".to_owned(),
        Connection::Connected(_) => match status.refused.iter().next() {
            Some(refused) => format!("waiting for /clock: {}", refused.error),
            None => "registering /clock".to_owned(),
        },
        Connection::Lost { reason, .. } => reason.to_string(),
        _ => "connecting".to_owned(),
    }
}
