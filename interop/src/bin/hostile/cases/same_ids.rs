//! Two callers use the same request id at the same time, for calls to the same service.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::dialect::Dialect;
use crate::figures::Figures;
use crate::message::{Incoming, Outgoing};
use crate::peer::Peer;
use crate::server::Target;
use crate::timeout::within;

const ID: u64 = 1;
/// The time limit for each call to arrive, and for the replies.
const TIME: Duration = Duration::from_millis(1500);

pub async fn run(target: &Target, figures: &mut Figures) -> io::Result<()> {
    let server = target.start()?;
    if server.dialect == Dialect::Nats {
        figures.add_text("the first caller gets", "not applicable");
        figures.add_text("the second caller gets", "not applicable");
        return Ok(());
    }
    let mut service = Peer::connect(&server).await?;
    service.request(Outgoing::Register { name: "/twins" }).await?;
    let mut callers = [Peer::connect(&server).await?, Peer::connect(&server).await?];

    let mut calls = Vec::new();
    for (caller, data) in callers.iter_mut().zip(["first", "second"]) {
        caller
            .writer
            .send(Outgoing::Call { service: "/twins", id: ID, data: data.as_bytes() })
            .await?;
        // A call that does not arrive was refused or lost, which the replies show.
        if let Ok(call) = within("a call", TIME, next_call(&mut service)).await {
            calls.push(call?);
        }
    }
    // The second call is answered first: a server that keeps one caller for each id has forgotten the first caller.
    for (reply_to, data) in calls.into_iter().rev() {
        let reply = Outgoing::Reply { to: &reply_to, is_last: true, data: &data };
        service.writer.send(reply).await?;
    }
    let end = Instant::now() + TIME;
    for (caller, own) in callers.iter_mut().zip(["first", "second"]) {
        figures.add_text(&format!("the {own} caller gets"), replies(caller, own, end).await);
    }
    Ok(())
}

async fn next_call(service: &mut Peer) -> io::Result<(Bytes, Bytes)> {
    loop {
        if let Incoming::Call { reply_to, data } = service.reader.receive().await? {
            return Ok((reply_to, data));
        }
    }
}

/// All replies to a caller.
async fn replies(caller: &mut Peer, own: &str, end: Instant) -> String {
    let mut replies = Vec::new();
    loop {
        match timeout_at(end, caller.reader.receive()).await {
            Ok(Ok(Incoming::Reply { code, data, .. })) => replies.push(match code {
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
