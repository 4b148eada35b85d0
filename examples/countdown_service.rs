//! A streaming service: answers each call to `/countdown` with several replies.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use gsb_client::{Bus, Call, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let countdown = |call: Call| {
        let from: u32 = String::from_utf8_lossy(&call.data).parse().unwrap_or(3);
        stream::iter((0..=from).rev()).then(|number| async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(number.to_string())
        })
    };
    let _countdown = bus.register_stream("/countdown", countdown).await?;
    println!("serving /countdown");
    bus.closed().await
}
