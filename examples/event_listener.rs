//! A listener: prints every event below `weather`.

use futures::StreamExt as _;
use gsb_client::{Bus, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let mut events = bus.subscribe("weather/**").await?;
    println!("listening to {}", events.topic());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => println!("{}: {}", event.topic, String::from_utf8_lossy(&event.data)),
            // A gap: this process was too slow, or the connection was lost.
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
