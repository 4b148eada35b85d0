//! Runs hostile and unlucky peers against routers, each in its own process, and prints what they cost the routers and
//! other peers.
//!
//! The load is bounded in bytes and in time, and stays on this host. Each process is killed when its case ends or
//! fails.

mod calls;
mod cases;
mod dialect;
mod figures;
mod flood;
mod message;
mod peer;
mod server;
mod table;
mod timeout;
mod victim;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gsb_load::harness::Progress;
use gsb_load::raise_descriptor_limit;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

use cases::{Case, Settings};
use figures::{Figures, Outcome, Value, duration};
use flood::Flood;
use server::{Kind, Target};
use victim::Victim;

/// Runs hostile and unlucky peers against three routers, and prints what they cost the routers and other peers.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Options {
    /// Only this case; can be repeated
    #[arg(long, value_name = "CASE")]
    only: Vec<Case>,

    /// Only this router; can be repeated
    #[arg(long, value_name = "ROUTER")]
    router: Vec<Kind>,

    /// Only this kind of the case `floods`; can be repeated
    #[arg(long, value_name = "KIND")]
    flood: Vec<Flood>,

    /// How often each kind of flood runs; the figures are medians
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    runs: u32,

    /// Use TCP instead of Unix sockets for GSB; NATS always uses TCP
    #[arg(long)]
    tcp: bool,

    /// Print the table in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,

    /// Print the figures in JSON
    #[arg(long)]
    json: bool,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// A service that a case kills
    #[command(hide = true)]
    Victim(Victim),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let run = async {
        match options.role {
            Some(Role::Victim(victim)) => victim.run().await,
            None => tokio::select! {
                done = run_cases(&options) => done,
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

/// Waits for SIGTERM or SIGINT. `main` then returns, which kills the servers.
async fn stopped() -> io::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Err(io::Error::other("a signal stopped it"))
}

async fn run_cases(options: &Options) -> io::Result<()> {
    raise_descriptor_limit();
    let mut targets = Vec::new();
    for kind in chosen(&options.router) {
        match Target::find(kind, options.tcp) {
            Ok(target) => targets.push(target),
            Err(error) if kind == Kind::Nats => eprintln!("{error}; it is left out"),
            Err(error) => return Err(error),
        }
    }
    let settings = Settings { floods: chosen(&options.flood), runs: options.runs };
    let cases = chosen(&options.only);
    let mut outcomes = Vec::new();
    let progress = Progress::new((cases.len() * targets.len()) as u64);
    for case in cases {
        for target in &targets {
            let name = format!("{} {}: {}", case.number(), case.title(), target.title);
            progress.begin(&name);
            let outcome = outcome(case, target, &settings).await;
            progress.end(&name, &format!("took {}", duration(outcome.took)));
            outcomes.push(outcome);
        }
    }
    drop(progress);
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

/// The values of an option; all values if it is not given.
fn chosen<T: clap::ValueEnum + Clone>(given: &[T]) -> Vec<T> {
    match given {
        [] => T::value_variants().to_vec(),
        given => given.to_vec(),
    }
}

/// Runs a case with a server. A failure becomes a figure.
async fn outcome(case: Case, target: &Target, settings: &Settings) -> Outcome {
    let start = Instant::now();
    let mut figures = Figures::default();
    let limit = case.limit(settings);
    match timeout(limit, case.run(target, settings, &mut figures)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => figures.add_text("failed", error.to_string()),
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
