//! A caller of a streaming service: prints each reply as it arrives.

use futures::StreamExt as _;
use gsb_client::{Bus, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let mut replies = bus.stream("/countdown", "5").await?;
    while let Some(reply) = replies.next().await {
        println!("{}", String::from_utf8_lossy(&reply?));
    }
    Ok(())
}
