//! A peer that uses `ya-service-bus`. It connects to the router at `GSB_URL`, reads commands from standard input, and
//! prints one line for each event. It ends when its input ends.
//!
//! `ya-peer typed` uses the `typed` module:
//!
//! | command | lines |
//! |---|---|
//! | `bind SERVICE` | `bound SERVICE`; from then on `noted TEXT` and `hanging` as such calls come |
//! | `unbind SERVICE` | `unbound SERVICE` |
//! | `echo SERVICE TEXT` | `echoed TEXT for CALLER`, `refused REASON` or `failed ERROR` |
//! | `count SERVICE N` | `item NUMBER`…, then `end` or `failed ERROR` |
//! | `note SERVICE TEXT` | `pushed` or `failed ERROR` |
//! | `recall SERVICE` | `recalled ["TEXT", …]` or `failed ERROR` |
//! | `hang SERVICE` | `failed ERROR` once the call ends |
//!
//! `ya-peer connection [INSTANCE]` uses the `connection` module, below `typed`. `INSTANCE` is a text to use as the
//! instance id.
//!
//! | command | lines |
//! |---|---|
//! | `bind SERVICE` | `bound SERVICE`; then `called CALLER ADDRESS TEXT`, `pushed CALLER ADDRESS TEXT` |
//! | `unbind SERVICE` | `unbound SERVICE` |
//! | `subscribe TOPIC` | `subscribed TOPIC`; then `event CALLER TOPIC TEXT` |
//! | `unsubscribe TOPIC` | `unsubscribed TOPIC` |
//! | `broadcast TOPIC TEXT` | `broadcast TOPIC` |
//! | `call ADDRESS TEXT` | `reply TEXT` |
//! | `stream ADDRESS TEXT` | `part TEXT`…, then `full TEXT` |
//! | `push ADDRESS TEXT` | `sent` |
//!
//! Each of them may print `failed ERROR` instead. The reply to a raw call is its text. If the text has several words,
//! each word is a partial reply, followed by an empty last one. `disconnected` is printed when the connection is lost.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use futures::{Stream, StreamExt as _, stream};
use gsb_interop::commands::{commands, words};
use gsb_interop::messages::{Count, Echo, Echoed, Hang, Note, Recall, Refusal};
use ya_service_bus::connection::{self, CallRequestHandler, ClientInfo};
use ya_service_bus::{ResponseChunk, typed};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let instance = arguments.next();
    actix::System::new().block_on(async {
        match mode.as_str() {
            "typed" => run_typed().await,
            "connection" => run_connection(instance).await,
            other => Err(format!("the mode is typed or connection, not {other:?}").into()),
        }
    })
}

fn ready() {
    // The version that the linked crate reports.
    let version =
        ClientInfo::new("").version.map_or_else(String::new, |version| version.to_string());
    println!("ready ya-service-bus {version}");
}

fn failed(error: impl Display) {
    println!("failed {error}");
}

async fn run_typed() -> Result<(), Box<dyn Error>> {
    settle().await;
    ready();
    let mut commands = commands();
    while let Some(command) = commands.recv().await {
        let (command, service, rest) = words(&command);
        let endpoint = typed::service(service);
        match command {
            "bind" => {
                serve(service);
                settle().await;
                println!("bound {service}");
            }
            "unbind" => {
                typed::unbind(service).await?;
                settle().await;
                println!("unbound {service}");
            }
            "echo" => {
                let text = rest.to_owned();
                match endpoint.call_as("ya-caller", Echo { text }).await {
                    Ok(Ok(Echoed { text, caller })) => println!("echoed {text} for {caller}"),
                    Ok(Err(Refusal { reason })) => println!("refused {reason}"),
                    Err(error) => failed(error),
                }
            }
            "count" => {
                let numbers = rest.parse()?;
                let mut items = endpoint.call_streaming(Count { numbers });
                let ended = loop {
                    match items.next().await {
                        None => break Ok(()),
                        Some(Ok(Ok(item))) => println!("item {item}"),
                        Some(Ok(Err(Refusal { reason }))) => break Err(reason),
                        Some(Err(error)) => break Err(error.to_string()),
                    }
                };
                match ended {
                    Ok(()) => println!("end"),
                    Err(error) => failed(error),
                }
            }
            "note" => {
                let text = rest.to_owned();
                match endpoint.push(Note { text }).await {
                    Ok(()) => println!("pushed"),
                    Err(error) => failed(error),
                }
            }
            "recall" => match endpoint.call(Recall {}).await {
                Ok(Ok(notes)) => println!("recalled {notes:?}"),
                Ok(Err(Refusal { reason })) => failed(reason),
                Err(error) => failed(error),
            },
            "hang" => match endpoint.call(Hang {}).await {
                Ok(answer) => failed(format!("a hanging call was answered: {answer:?}")),
                Err(error) => failed(error),
            },
            other => return Err(format!("unknown command {other:?}").into()),
        }
    }
    Ok(())
}

/// Waits until the router has answered all previous requests.
///
/// `typed` registers in the background and does not report when it is done. A router answers the requests of a
/// connection in order, so the failure of a call to an unknown service comes after the previous answers.
async fn settle() {
    let unknown = typed::service(format!("/unknown/{}", std::process::id()));
    if let Ok(answer) = unknown.call(Hang {}).await {
        failed(format!("a call to an unknown service was answered: {answer:?}"));
    }
}

fn serve(service: &str) {
    let notes = Rc::new(RefCell::new(Vec::new()));
    let _ = typed::bind_with_caller(service, |caller, Echo { text }| async move {
        if text == Echo::REFUSED {
            let reason = "as asked".to_owned();
            return Err(Refusal { reason });
        }
        Ok(Echoed { text, caller })
    });
    let _ = typed::bind_stream(service, |Count { numbers }| stream::iter((0..numbers).map(Ok)));
    let noted = Rc::clone(&notes);
    let _ = typed::bind(service, move |Note { text }| {
        println!("noted {text}");
        noted.borrow_mut().push(text);
        async { Ok(()) }
    });
    let _ = typed::bind(service, move |Recall {}| {
        let notes = notes.borrow().clone();
        async { Ok(notes) }
    });
    let _ = typed::bind(service, |Hang {}| {
        println!("hanging");
        std::future::pending()
    });
}

async fn run_connection(instance: Option<String>) -> Result<(), Box<dyn Error>> {
    let mut client = ClientInfo::new("ya-peer");
    if let Some(instance) = instance {
        client.instance_id = instance.into_bytes();
    }
    let transport = connection::transport(ya_sb_proto::GsbAddr::default()).await?;
    let bus = connection::connect_with_handler(client, transport, Events);
    ready();
    let mut commands = commands();
    while let Some(command) = commands.recv().await {
        let (command, target, text) = words(&command);
        let body = text.as_bytes().to_vec();
        match command {
            "bind" => done(bus.bind(target), format!("bound {target}")).await,
            "unbind" => done(bus.unbind(target), format!("unbound {target}")).await,
            "subscribe" => done(bus.subscribe(target), format!("subscribed {target}")).await,
            "unsubscribe" => done(bus.unsubscribe(target), format!("unsubscribed {target}")).await,
            "broadcast" => {
                let sent = bus.broadcast("ya-caller", target, body);
                done(sent, format!("broadcast {target}")).await;
            }
            "call" => match bus.call("ya-caller", target, body, false).await {
                Ok(reply) => println!("reply {}", text_of(&reply)),
                Err(error) => failed(error),
            },
            "stream" => {
                let mut chunks = bus.call_streaming("ya-caller", target, body);
                while let Some(chunk) = chunks.next().await {
                    match chunk {
                        Ok(ResponseChunk::Part(part)) => println!("part {}", text_of(&part)),
                        Ok(ResponseChunk::Full(full)) => println!("full {}", text_of(&full)),
                        Err(error) => failed(error),
                    }
                }
            }
            "push" => match bus.call("ya-caller", target, body, true).await {
                Ok(_) => println!("sent"),
                Err(error) => failed(error),
            },
            other => return Err(format!("unknown command {other:?}").into()),
        }
    }
    Ok(())
}

async fn done<E: Display>(request: impl Future<Output = Result<(), E>>, line: String) {
    match request.await {
        Ok(()) => println!("{line}"),
        Err(error) => failed(error),
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Prints what arrives, and answers raw calls.
struct Events;

impl CallRequestHandler for Events {
    type Reply = Pin<Box<dyn Stream<Item = Result<ResponseChunk, ya_service_bus::Error>>>>;

    fn do_call(
        &mut self,
        _request_id: String,
        caller: String,
        address: String,
        data: Vec<u8>,
        no_reply: bool,
    ) -> Self::Reply {
        let text = text_of(&data);
        let event = if no_reply { "pushed" } else { "called" };
        println!("{event} {caller} {address} {text}");
        if no_reply || !text.contains(' ') {
            return stream::iter([Ok(ResponseChunk::Full(data))]).boxed_local();
        }
        let parts: Vec<_> = text.split(' ').map(|part| part.as_bytes().to_vec()).collect();
        let end = [Ok(ResponseChunk::Full(Vec::new()))];
        stream::iter(parts.into_iter().map(|part| Ok(ResponseChunk::Part(part))))
            .chain(stream::iter(end))
            .boxed_local()
    }

    fn handle_event(&mut self, caller: String, topic: String, data: Vec<u8>) {
        println!("event {caller} {topic} {}", text_of(&data));
    }

    fn on_disconnect(&mut self) {
        println!("disconnected");
    }
}
