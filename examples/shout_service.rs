//! A service whose handler calls another service: answers with the reply of `/echo` in capital letters.

use gsb_client::{Bus, Call, Error, Failure, WeakBus};

/// The handler holds a `WeakBus`. The bus keeps its handlers, so with a `Bus` they would keep each other alive.
async fn shout(bus: WeakBus, call: Call) -> Result<String, Failure> {
    let bus = bus.upgrade().ok_or("the bus has ended")?;
    // `?` turns an error into a `Failure`, and the caller gets its text.
    let reply = bus.call("/echo", call.data).await?;
    Ok(std::str::from_utf8(&reply)?.to_uppercase())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let _shout = bus.register_with("/shout", bus.downgrade(), shout).await?;
    println!("serving /shout");
    bus.closed().await
}
