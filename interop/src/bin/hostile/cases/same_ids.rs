//! Two callers happen to choose the same request id, at the same service and at the same time.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::peer::{Dialect, Heard, Peer, Say, within};
use crate::process::Target;
use crate::table::Figures;

const ID: &str = "same";
/// For each call to be heard, and then for the replies.
const TIME: Duration = Duration::from_millis(1500);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start().await?;
    if server.dialect == Dialect::Nats {
        figures.say("the first caller gets", "not applicable");
        figures.say("the second caller gets", "not applicable");
        return server.stop().await;
    }
    let mut service = Peer::connect(&server).await?;
    service.ask(Say::Serve { name: "/twins" }).await?;
    let mut callers = [Peer::connect(&server).await?, Peer::connect(&server).await?];

    let mut heard = Vec::new();
    for (caller, data) in callers.iter_mut().zip(["first", "second"]) {
        caller.writer.say(Say::Call { to: "/twins", id: ID, data: data.into() }).await?;
        // One that does not arrive is refused, or lost; its caller will tell.
        if let Ok(call) = within("a call", TIME, next_call(&mut service)).await {
            heard.push(call?);
        }
    }
    // The second first: whoever keeps one way back per id has now forgotten the other.
    for (id, data) in heard.into_iter().rev() {
        service.writer.say(Say::Reply { to: &id, last: true, data }).await?;
    }
    let end = Instant::now() + TIME;
    for (caller, own) in callers.iter_mut().zip(["first", "second"]) {
        figures.say(&format!("the {own} caller gets"), replies(caller, own, end).await);
    }
    server.stop().await
}

async fn next_call(service: &mut Peer) -> io::Result<(String, Bytes)> {
    loop {
        if let Heard::Call { id, data } = service.reader.hear().await? {
            return Ok((id, data));
        }
    }
}

/// Everything that comes for this caller.
async fn replies(caller: &mut Peer, own: &str, end: Instant) -> String {
    let mut replies = Vec::new();
    loop {
        match timeout_at(end, caller.reader.hear()).await {
            Ok(Ok(Heard::Reply { code, data, .. })) => replies.push(match code {
                0 if data == own => "its own reply".to_owned(),
                0 => "the other's reply".to_owned(),
                code => format!("code {code}"),
            }),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => {
                replies.push("its connection closed".to_owned());
                break;
            }
            Err(_) => break,
        }
    }
    match replies[..] {
        [] => "nothing".to_owned(),
        _ => replies.join(", "),
    }
}
