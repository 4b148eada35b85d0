//! The owner of a name is killed, and another connection registers the name.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::dialect::Dialect;
use crate::figures::{Figures, Value, duration};
use crate::message::Outgoing;
use crate::peer::Peer;
use crate::server::{Server, Target};
use crate::victim::VictimProcess;

const TIME: Duration = Duration::from_secs(4);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    for (owner, has_hello) in [("its owner said Hello", true), ("its owner did not", false)] {
        let fate = match server.dialect {
            Dialect::Nats => Value::Text("names have no owner".to_owned()),
            Dialect::Gsb => Value::Text(name_of_killed(&server, has_hello).await?),
        };
        figures.add(&format!("name, {owner}"), fate);
    }
    Ok(())
}

async fn name_of_killed(server: &Server, has_hello: bool) -> io::Result<String> {
    let name = if has_hello { "/introduced" } else { "/stranger" };
    let owner = VictimProcess::start(server, name, has_hello).await?;
    let mut successor = Peer::connect(server).await?;
    let start = Instant::now();
    owner.kill().await?;
    loop {
        match successor.request(Outgoing::Register { name }).await {
            Ok(()) => return Ok(format!("free after {}", duration(start.elapsed()))),
            Err(error) if start.elapsed() >= TIME => {
                return Ok(format!("taken after {}: {error}", duration(start.elapsed())));
            }
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}
