//! A caller: calls `/echo` once and prints the reply.

use gsb_client::{Bus, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let reply = bus.call("/echo", "hello, bus").await?;
    println!("{}", String::from_utf8_lossy(&reply));
    Ok(())
}
