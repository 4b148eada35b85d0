//! A publisher: announces one event.

use gsb_client::{Bus, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    match bus.broadcast("weather/warsaw", "sunny").await? {
        Some(receivers) => println!("announced to {receivers} receivers"),
        // A router of another project may not count them.
        None => println!("announced"),
    }
    Ok(())
}
