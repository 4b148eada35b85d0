//! A typed service: two messages, an error of its own, a state that the messages share, and its unit test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gsb_client::{Bus, Error, Message, Registering};
use serde::{Deserialize, Serialize};

// In a real project the messages and errors are in a crate that the callers use, too.

#[derive(Serialize, Deserialize, Message)]
#[message(id = "divide", item = f64, error = MathError)]
struct Divide(f64, f64);

#[derive(Serialize, Deserialize, Message)]
#[message(id = "count", item = u64)]
struct Count;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum MathError {
    DivisionByZero,
}

/// The state: the number of divisions.
#[derive(Default)]
struct Math {
    divisions: AtomicU64,
}

impl Math {
    async fn divide(self: Arc<Self>, Divide(dividend, divisor): Divide) -> Result<f64, MathError> {
        self.divisions.fetch_add(1, Ordering::Relaxed);
        if divisor == 0.0 { Err(MathError::DivisionByZero) } else { Ok(dividend / divisor) }
    }

    async fn count(self: Arc<Self>, _: Count) -> Result<u64, String> {
        Ok(self.divisions.load(Ordering::Relaxed))
    }
}

fn register(bus: &Bus) -> Registering {
    bus.serve("/math", Arc::new(Math::default())).on(Math::divide).on(Math::count).register()
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let bus = Bus::connect_default().await?;
    let _math = register(&bus).await?;
    println!("serving /math");
    bus.closed().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_divides_and_counts() -> Result<(), Error> {
        let bus = Bus::local();
        let _math = register(&bus).await?;
        let math = bus.service("/math");
        assert_eq!(math.call(Divide(1.0, 2.0)).await?, Ok(0.5));
        assert_eq!(math.call(Divide(1.0, 0.0)).await?, Err(MathError::DivisionByZero));
        assert_eq!(math.call(Count).await?, Ok(2));
        Ok(())
    }

    // `Bus::local()` passes messages without encoding. Over a router they are encoded, as in production.
    #[tokio::test]
    async fn its_messages_can_be_encoded() -> Result<(), Box<dyn std::error::Error>> {
        let router = gsb_router::Router::in_process().await?;
        let (service, caller) =
            (Bus::connect(router.address()).await?, Bus::connect(router.address()).await?);
        let _math = register(&service).await?;
        let quotient = caller.service("/math").call(Divide(1.0, 0.0)).await?;
        assert_eq!(quotient, Err(MathError::DivisionByZero));
        router.stop().await;
        Ok(())
    }
}
