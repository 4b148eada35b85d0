//! A service that takes pushes: prints each line, in the order in which its sender pushed the lines.

use gsb_client::{Bus, Call, Error};

async fn print(call: Call) {
    println!("{}", String::from_utf8_lossy(&call.data));
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    // `serial`: the handler of a push ends before the next one begins.
    let _journal = bus.serial().register_push("/journal", print).await?;
    println!("serving /journal");
    bus.closed().await
}
