//! A publisher: announces one event.

use gsb_client::{Bus, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    bus.broadcast("weather/warsaw", "sunny").await?;
    println!("announced");
    Ok(())
}
