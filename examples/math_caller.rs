//! A caller that waits for its service, and repeats a call when that is safe.

use std::time::Duration;

use gsb_client::{Answer, Bus, Error, Message, Service};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Message)]
#[message(id = "divide", item = f64, error = MathError)]
struct Divide(f64, f64);

#[derive(Debug, Serialize, Deserialize)]
enum MathError {
    DivisionByZero,
}

/// Repeats the call as long as no service has handled it, for example because the service is busy.
async fn divide(math: &Service, dividend: f64, divisor: f64) -> Result<Answer<Divide>, Error> {
    let mut pause = Duration::from_millis(100);
    for _ in 0..5 {
        match math.call(Divide(dividend, divisor)).await {
            Err(error) if error.is_retryable() => println!("again in {pause:?}: {error}"),
            result => return result,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    math.call(Divide(dividend, divisor)).await
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    // Waiting for a service that is not registered yet, or for a router that restarts, needs no loop.
    let timeout = Duration::from_secs(30);
    let math = bus.service("/math").wait_for_router(timeout).wait_for_service(timeout);
    println!("1 / 2: {:?}", divide(&math, 1.0, 2.0).await?);
    println!("1 / 0: {:?}", divide(&math, 1.0, 0.0).await?);
    Ok(())
}
