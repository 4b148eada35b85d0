//! A caller without a runtime: calls `/echo` once and prints the reply.

use gsb_client::Error;
use gsb_client::blocking::Bus;

fn main() -> Result<(), Error> {
    let bus = Bus::connect_default()?;
    let reply = bus.call("/echo", "hello, bus")?;
    println!("{}", String::from_utf8_lossy(&reply));
    Ok(())
}
