//! A sender of pushes, which are calls without a reply.

use gsb_client::{Bus, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    for line in ["one", "two", "three"] {
        bus.push("/journal", line).await?;
    }
    // A push returns when it is queued. This returns when the router has taken all of them.
    bus.flush().await
}
