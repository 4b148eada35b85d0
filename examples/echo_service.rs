//! A service: answers each call to `/echo` with the data of the call.

use gsb_client::{Bus, Call, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let _echo = bus.register("/echo", |call: Call| async move { Ok(call.data) }).await?;
    println!("serving /echo");
    bus.closed().await
}
