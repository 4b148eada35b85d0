//! The program `router`: options, logging and signals around the library [`gsb_router`].

mod config_file;
mod config_listing;
mod log_queue;
mod nearest_name;
mod options;
mod reload;
mod signals;

use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use env_logger::{Target, WriteStyle};
use gsb_router::{Address, BindError, Router};
use log::LevelFilter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use log_queue::{LogQueue, run_with_timeout};
use options::{Settings, Task};
use reload::{Reloader, has_fixed_log_levels, set_log_level};
use signals::Signals;

/// Exit code for unusable options, as clap uses it.
const EXIT_USAGE: u8 = 2;
/// Exit code if the router cannot listen on an address.
const EXIT_LISTEN: u8 = 3;
/// Exit code for all other failures.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    let settings = match options::read() {
        Ok(settings) => settings,
        Err(error) => {
            // Also for --help and --version, which go to standard output with code 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE);
            if error.use_stderr() {
                run_with_timeout(move || drop(error.print()));
            } else {
                let _ = error.print();
            }
            return ExitCode::from(code);
        }
    };
    let done = match &settings.task {
        Task::Run => start(settings),
        Task::CheckConfig => Router::check(&settings.router)
            .map(|()| print(warnings(&settings, "warning") + "The configuration can be used.\n"))
            .map_err(|error| fail(EXIT_USAGE, error)),
        Task::PrintConfig(text) => {
            print(warnings(&settings, "# warning") + text);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // `eprintln!` would panic if standard error is closed, and block if it is a full pipe.
            let sentence = failure.sentence;
            run_with_timeout(move || {
                let _ = writeln!(io::stderr(), "router: {sentence}");
            });
            ExitCode::from(failure.code)
        }
    }
}

/// The warnings of the settings, a line each.
fn warnings(settings: &Settings, begin: &str) -> String {
    let mut warnings = settings.warnings.clone();
    if has_fixed_log_levels() {
        warnings.push("the variable RUST_LOG overrides log-level".to_owned());
    }
    warnings.iter().map(|warning| format!("{begin}: {warning}\n")).collect()
}

fn print(text: String) {
    run_with_timeout(move || {
        let _ = io::stdout().write_all(text.as_bytes());
    });
}

/// A failure that ends the program.
struct Failure {
    /// For the user.
    sentence: String,
    /// For scripts.
    code: u8,
}

fn fail(code: u8, error: impl std::fmt::Display) -> Failure {
    Failure { sentence: error.to_string(), code }
}

fn start(mut settings: Settings) -> Result<(), Failure> {
    let log = init_log(settings.log_level)
        .map_err(|error| fail(EXIT_FAILURE, format!("cannot start logging: {error}")))?;
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    raise_descriptor_limit();
    if let (Some(workers), Ok(processors)) =
        (&mut settings.router.workers, std::thread::available_parallelism())
    {
        leave_a_processor(workers, processors);
    }
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(EXIT_FAILURE, format!("cannot start: {error}")))?
        .block_on(serve(settings, log.clone()));
    log.flush_with_timeout();
    served
}

async fn serve(settings: Settings, log: LogQueue) -> Result<(), Failure> {
    let mut config = settings.router.clone();
    if config.listen.is_empty() {
        let default = Address::from_environment().map_err(|error| fail(EXIT_USAGE, error))?;
        config.listen.push(default);
    }
    // From here on a signal stops the router in order instead of killing it.
    let mut signals = Signals::listen().map_err(|error| fail(EXIT_FAILURE, error))?;
    let router = Router::bind(config).await.map_err(|error| {
        let code = match error {
            BindError::InUse(_)
            | BindError::Locked { .. }
            | BindError::NotASocket(_)
            | BindError::Io { .. } => EXIT_LISTEN,
            BindError::Worker(_) => EXIT_FAILURE,
            _ => EXIT_USAGE,
        };
        fail(code, error)
    })?;
    announce(&router);
    let handle = router.shutdown_handle();
    let mut reloader = Reloader::new(router.status(), &settings);
    tokio::spawn(async move {
        signals.stop(|| reloader.reload()).await;
        log::info!("stopping");
        handle.shutdown();
        signals.stop_again().await;
        log::warn!("stopping at once");
        log.flush_with_timeout();
        std::process::exit(EXIT_FAILURE.into());
    });
    router.run().await;
    log::info!("stopped");
    Ok(())
}

/// Lowers the number of workers so that one processor is left to the peers, most of which are on this host. Otherwise
/// workers and peers would wait for each other, and calls would take longer.
fn leave_a_processor(workers: &mut NonZeroUsize, processors: NonZeroUsize) {
    let most = NonZeroUsize::new(processors.get() - 1).unwrap_or(NonZeroUsize::MIN);
    if *workers > most {
        log::warn!(
            "{workers} workers (--workers) are too many for {processors} processors, of which the peers need one: \
             {most} are started"
        );
        *workers = most;
    }
}

/// Prints the line that tells people and scripts that peers can connect now.
fn announce(router: &Router) {
    let addresses: Vec<String> = router.local_addresses().iter().map(Address::to_string).collect();
    let version = env!("CARGO_PKG_VERSION");
    // The router runs on if standard output is closed or a full pipe.
    run_with_timeout(move || {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "router {version} listening on {}", addresses.join(", "));
        let _ = out.flush();
    });
}

fn init_log(level: LevelFilter) -> io::Result<LogQueue> {
    let queue = LogQueue::start(io::stderr())?;
    let mut builder = env_logger::Builder::new();
    let lowest = if has_fixed_log_levels() { level } else { LevelFilter::Trace };
    builder.filter_level(lowest).target(Target::Pipe(Box::new(queue.clone())));
    if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        builder.write_style(WriteStyle::Always);
    }
    // RUST_LOG overrides the level.
    builder.parse_default_env();
    builder.init();
    set_log_level(level);
    Ok(queue)
}

/// Raises the limit of open files: each connection needs a descriptor, and the usual soft limit is low.
fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        log::warn!("cannot raise the limit of open files: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_leave_a_processor_to_others() {
        let cases = [(1, 1, 1), (1, 2, 1), (2, 2, 1), (3, 2, 1), (2, 3, 2), (3, 8, 3), (64, 8, 7)];
        for (asked, processors, expected) in cases {
            let [asked, processors] = [asked, processors].map(|n| NonZeroUsize::new(n).unwrap());
            let mut workers = asked;
            leave_a_processor(&mut workers, processors);
            assert_eq!(workers.get(), expected, "{asked} workers on {processors} processors");
        }
    }
}
