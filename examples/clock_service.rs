//! A service for the long run: starts before the router if need be, outlives it, and ends in order.

use std::time::{Duration, SystemTime};

use gsb_client::{Address, Bus, Call, Connection, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::builder().name("clock").connect_lazy(Address::from_environment()?)?;
    let clock = |_: Call| async {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(since.as_secs().to_string())
    };
    let _clock = bus.register("/clock", clock).await?;

    let mut watch = bus.watch();
    tokio::spawn(async move {
        while let Some(status) = watch.changed().await {
            match &status.connection {
                Connection::Connected(_) if status.is_settled => println!("serving /clock"),
                Connection::Lost { reason, .. } => println!("{reason}"),
                _ => {}
            }
        }
    });

    tokio::select! {
        ended = bus.closed() => ended,
        _ = tokio::signal::ctrl_c() => bus.shutdown(Duration::from_secs(5)).await,
    }
}
