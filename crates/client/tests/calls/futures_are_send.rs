//! All futures and handles can be sent between threads. This is checked at compile time.

use gsb_client::{Bus, Call, Error, Message};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Message)]
#[message(id = "ask")]
struct Ask;

fn send<T: Send>(_: T) {}

fn sync<T: Sync>(_: &T) {}

#[allow(dead_code)]
async fn of_everything(bus: Bus) -> Result<(), Error> {
    sync(&bus);
    sync(&bus.endpoint("/s"));
    sync(&bus.service("/s"));
    sync(&bus.watch());
    send(Bus::connect("unix:/s"));
    send(bus.register("/s", |_: Call| async { Ok("") }));
    send(bus.bind("/s", |Ask| async { Ok(()) }));
    send(bus.call("/s", ""));
    send(bus.stream("/s", ""));
    send(bus.stream("/s", "").await?);
    send(bus.push("/s", ""));
    send(bus.service("/s").call(Ask));
    send(bus.service("/s").call_as("/me", Ask));
    send(bus.service("/s").stream(Ask));
    send(bus.service("/s").stream(Ask).await?);
    send(bus.service("/s").push(Ask));
    send(bus.subscribe("t"));
    send(bus.topic::<u32>("t").subscribe());
    send(bus.topic("t").broadcast(&1));
    send(bus.settled());
    send(bus.shutdown(std::time::Duration::ZERO));
    send(bus.closed());
    Ok(())
}

#[test]
fn it_compiles() {
    send(of_everything);
}
