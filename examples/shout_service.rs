//! A service whose handler calls another service: answers with what `/echo` answers, in capitals.

use gsb_client::{Bus, Call, Error, Failure, WeakBus};

/// The bus keeps this handler. A `Bus` in here would keep the bus, so that neither would ever end; a `WeakBus`
/// does not.
async fn shout(bus: WeakBus, call: Call) -> Result<String, Failure> {
    let bus = bus.upgrade().ok_or("the bus has ended")?;
    // Errors become a `Failure` with `?`; the caller sees the text.
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
