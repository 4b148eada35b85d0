//! The owner of a name is killed, and another connection registers the name.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::peer::{Dialect, Peer, Say};
use crate::process::{Server, Target};
use crate::table::{Figures, Value, duration};
use crate::victim::VictimProcess;

const TIME: Duration = Duration::from_secs(4);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start().await?;
    for (who, has_hello) in [("its owner said Hello", true), ("its owner did not", false)] {
        let fate = match server.dialect {
            // Whoever subscribes to a name gets what is sent to it, next to others or alone.
            Dialect::Nats => Value::Text("names have no owner".to_owned()),
            Dialect::Gsb => Value::Text(name_of_killed(&server, has_hello).await?),
        };
        figures.add(&format!("name, {who}"), fate);
    }
    server.stop().await
}

async fn name_of_killed(server: &Server, has_hello: bool) -> io::Result<String> {
    let name = if has_hello { "/introduced" } else { "/stranger" };
    let owner = VictimProcess::start(server, name, has_hello).await?;
    let mut heir = Peer::connect(server).await?;
    let start = Instant::now();
    owner.kill().await?;
    loop {
        match heir.ask(Say::Serve { name }).await {
            Ok(()) => return Ok(format!("free after {}", duration(start.elapsed()))),
            Err(why) if start.elapsed() >= TIME => {
                return Ok(format!("taken after {}: {why}", duration(start.elapsed())));
            }
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}
