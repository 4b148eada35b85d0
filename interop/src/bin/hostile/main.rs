//! Plays hostile and unlucky peers against routers, each in a process of its own, and prints what it cost
//! the routers and everybody else.
//!
//! The load is bounded in bytes and in time, and stays on this host. Every process that is started is
//! killed when its case ends, however that is.

mod calls;
mod cases;
mod gsb;
mod nats;
mod peer;
mod process;
mod table;
mod victim;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

use cases::{Case, Flood, Settings};
use process::{Kind, Target};
use table::{Figures, Outcome, Value};
use victim::Victim;

/// Plays hostile and unlucky peers against three routers and prints what it costs them.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Options {
    /// Only this case; may be given several times
    #[arg(long, value_name = "CASE")]
    only: Vec<Case>,

    /// Only this router; may be given several times
    #[arg(long, value_name = "ROUTER")]
    router: Vec<Kind>,

    /// Of the case `floods` only this kind; may be given several times
    #[arg(long, value_name = "KIND")]
    flood: Vec<Flood>,

    /// How often each kind of flood is played; medians are printed
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    runs: u32,

    /// GSB over TCP instead of Unix sockets; NATS is always over TCP
    #[arg(long)]
    tcp: bool,

    /// The table in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,

    /// All figures in JSON
    #[arg(long)]
    json: bool,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// A service that a case is going to kill
    #[command(hide = true)]
    Victim(Victim),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let run = async {
        match options.role {
            Some(Role::Victim(victim)) => victim.run().await,
            None => tokio::select! {
                done = play(&options) => done,
                stopped = stopped() => stopped,
            },
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returning, rather than ending at once, stops the processes.
async fn stopped() -> io::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Err(io::Error::other("stopped by a signal"))
}

async fn play(options: &Options) -> io::Result<()> {
    process::raise_descriptor_limit();
    let mut targets = Vec::new();
    for kind in chosen(&options.router) {
        match Target::find(kind, options.tcp).await {
            Ok(target) => targets.push(target),
            Err(error) if kind == Kind::Nats => eprintln!("{error}; its column is left out"),
            Err(error) => return Err(error),
        }
    }
    let settings = Settings { floods: chosen(&options.flood), runs: options.runs };
    let mut outcomes = Vec::new();
    for case in chosen(&options.only) {
        for target in &targets {
            eprintln!("{} {}: {}", case.number(), case.title(), target.title);
            outcomes.push(outcome(case, target, &settings).await);
        }
    }
    let text = if options.json {
        table::json(&outcomes).map_err(io::Error::other)?
    } else if options.markdown {
        table::markdown(&outcomes)
    } else {
        table::plain(&outcomes)
    };
    println!("{text}");
    Ok(())
}

/// What was asked for; everything if nothing was.
fn chosen<T: clap::ValueEnum + Clone>(asked: &[T]) -> Vec<T> {
    match asked {
        [] => T::value_variants().to_vec(),
        some => some.to_vec(),
    }
}

/// A router that fails a case costs the case no more than the row that says so.
async fn outcome(case: Case, target: &Target, settings: &Settings) -> Outcome {
    let start = Instant::now();
    let mut figures = Figures::default();
    let limit = case.limit(settings);
    match timeout(limit, case.run(target, settings, &mut figures)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => figures.say("failed", error.to_string()),
        Err(_) => figures.add("failed: took", Value::MoreThan(limit)),
    }
    Outcome {
        number: case.number(),
        case: case.title(),
        router: target.kind,
        title: target.title.clone(),
        took: start.elapsed(),
        figures,
    }
}
