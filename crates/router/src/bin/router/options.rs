//! Options from flags, environment variables and a file.
//!
//! There is one parser: the options of the file are added to the command line as flags, except those that a flag or a
//! variable sets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{
    Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
};
use gsb_proto::framing::LARGEST_MAX_FRAME;
use gsb_router::{Address, Limits, RouterConfig, SMALLEST_MAX_FRAME};

use crate::config_file::{ConfigFile, FileOption, NOT_IN_FILES};
use crate::config_listing;
use crate::nearest_name::nearest;

const EXAMPLES: &str = "\
Examples:
  router                                    listens on this user's default address
  router -l tcp://127.0.0.1:7464            listens on TCP
  router -l unix:/run/gsb.sock -l :7464     listens on both, with the same services
  GSB_PING_TIMEOUT=2m router                takes options from environment variables
  router --config /etc/gsb/router.toml      takes them from a file: max-frame = \"16MiB\"
  router check-config --config router.toml  says what is wrong with the file
  router print-config                       prints all options, and where each value comes from

SIGHUP reloads the limits and the log level; see docs/reliability.md.

The default address is unix:$XDG_RUNTIME_DIR/gsb.sock; if that variable is not set, it is
unix:/tmp/gsb-<uid>/gsb.sock. Flags override environment variables, which override the file.
RUST_LOG overrides --log-level.

Exit codes: 0 stopped by a signal, 2 unusable options, 3 cannot listen on an address, 1 any other
failure.";

/// Within the stall timeout, a peer must read this much.
const SMALLEST_QUEUE_LIMIT: ByteSize = ByteSize::kib(64);

/// New and old names of variables. The old one counts if the new one is not set.
const OLD_VARIABLES: [(&str, &str); 1] = [("GSB_BUSY_POLL", "GSB_SPIN")];

/// A few connections should be able to use their queue limits in part.
const SMALLEST_MEMORY_LIMIT: ByteSize = ByteSize::mib(1);

/// The prefix of this program's variables.
const PREFIX: &str = "GSB_";

/// A shorter timeout would disconnect peers that are alive.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// A thread that polls for longer would take a whole processor.
const LONGEST_BUSY_POLL: Duration = Duration::from_secs(1);

/// Router of the Golem Service Bus. Programs on this host find and call each other by name through it.
#[derive(Debug, Parser)]
#[command(name = "router", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
struct Options {
    /// Address to listen on: unix:/path or tcp://host:port. May be given several times
    #[arg(short, long, env = "GSB_URL", value_name = "URL", value_parser = listen_address)]
    listen: Vec<Address>,

    /// How long a peer may be silent before it gets a Ping; after twice that time it is disconnected. In
    /// seconds, or with a unit as in 90s or 2m; 0 disables it
    #[arg(long, env = "GSB_PING_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = ping_timeout)]
    ping_timeout: Duration,

    /// Largest frame (an encoded message) that is accepted. In bytes, or with a unit as in 16MiB
    #[arg(long, env = "GSB_MAX_FRAME", value_name = "SIZE", default_value = "64MiB", value_parser = max_frame)]
    max_frame: ByteSize,

    /// Connections that may be open at the same time
    #[arg(long, env = "GSB_MAX_CONNECTIONS", value_name = "COUNT", value_parser = count, default_value_t = gsb_router::DEFAULT_MAX_CONNECTIONS)]
    max_connections: usize,

    /// Services that one connection may register
    #[arg(long, env = "GSB_MAX_SERVICES", value_name = "COUNT", value_parser = count, default_value_t = Limits::default().services)]
    max_services: usize,

    /// Subscriptions that one connection may have
    #[arg(long, env = "GSB_MAX_SUBSCRIPTIONS", value_name = "COUNT", value_parser = count, default_value_t = Limits::default().subscriptions)]
    max_subscriptions: usize,

    /// Calls that one connection may have open
    #[arg(long, env = "GSB_MAX_OPEN_CALLS", value_name = "COUNT", value_parser = count, default_value_t = Limits::default().open_calls)]
    max_open_calls: usize,

    /// Bytes that may be queued for one connection, for each of these purposes: the router's answers to it,
    /// its calls, the replies to its calls, broadcasts to it. In bytes, or with a unit as in 16MiB
    #[arg(long, env = "GSB_QUEUE_LIMIT", value_name = "SIZE", default_value = "16MiB", value_parser = queue_limit)]
    queue_limit: ByteSize,

    /// Bytes that may be queued for all connections together, unfinished messages included. In bytes, or
    /// with a unit as in 2GiB [default: a quarter of the memory of the machine or its cgroup]
    #[arg(long, env = "GSB_MEMORY_LIMIT", value_name = "SIZE", value_parser = memory_limit)]
    memory_limit: Option<ByteSize>,

    /// Time in which a peer must read 64 KiB of what is queued for it, or an eighth of the queue limit
    /// while others wait for it. A slower peer is stalled: its calls and calls to it fail until it reads
    #[arg(long, env = "GSB_STALL_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = timeout)]
    stall_timeout: Duration,

    /// Time in which a peer must read 64 KiB of what is queued for it. A slower peer is disconnected
    #[arg(long, env = "GSB_WRITE_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = timeout)]
    write_timeout: Duration,

    /// How long an unfinished message may get no further byte before its sender is disconnected
    #[arg(long, env = "GSB_FRAME_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = timeout)]
    frame_timeout: Duration,

    /// How long a stopping router waits for open calls to end; 0 ends them at once
    #[arg(long, env = "GSB_DRAIN_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = duration)]
    drain_timeout: Duration,

    /// Permissions of the file of a Unix socket, in octal
    #[arg(long, env = "GSB_UNIX_MODE", value_name = "MODE", default_value = "0600", value_parser = mode)]
    unix_mode: u32,

    /// Threads that serve connections. One processor at least is left to the peers
    #[arg(long, env = "GSB_WORKERS", value_name = "COUNT", default_value_t = 1, value_parser = count)]
    workers: usize,

    /// How long a thread without work polls for more before it sleeps. This lowers latency and costs
    /// processor time; it stops by itself where no processor is free. 0 disables it
    #[arg(long, alias = "spin", env = "GSB_BUSY_POLL", value_name = "TIME", default_value = "50us", value_parser = busy_poll)]
    busy_poll: Duration,

    /// The least severe level that is logged, to standard error
    #[arg(long, env = "GSB_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = log_levels(), ignore_case = true)]
    log_level: log::LevelFilter,

    /// TOML file with any of these options, by their long names
    #[arg(long, env = "GSB_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<ConfigCommand>,
}

/// The settings of the program, from all sources.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) router: RouterConfig,
    pub(crate) log_level: log::LevelFilter,
    /// Suspicious settings, to be logged.
    pub(crate) warnings: Vec<String>,
    pub(crate) task: Task,
    /// The values of all options as they were given, by their long names. An option without a value has none.
    pub(crate) values: BTreeMap<String, Vec<String>>,
}

/// What the program is to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Run the router.
    Run,
    /// Check the configuration as a whole. Each option has been checked.
    CheckConfig,
    /// Print this text.
    PrintConfig(String),
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum ConfigCommand {
    /// Checks the options of the file, the environment and the command line, and does not start a router
    CheckConfig,
    /// Prints all options as a configuration file, with the source of each value
    PrintConfig,
}

/// Reads the options of this process.
pub(crate) fn read() -> Result<Settings, clap::Error> {
    let mut settings = read_from(std::env::args_os().collect())?;
    settings.warnings = unknown_variables(std::env::vars_os().map(|(name, _)| name));
    Ok(settings)
}

/// The command line. An empty variable counts as not set.
fn command() -> Command {
    let is_set = |name: &OsStr| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    Options::command().mut_args(|argument| {
        // Before the command and behind it.
        let argument = argument.global(true);
        let Some(name) = argument.get_env().filter(|name| !is_set(name)) else {
            return argument;
        };
        let old = OLD_VARIABLES.iter().find(|(new, old)| name == *new && is_set(old.as_ref()));
        match old {
            Some((_, old)) => argument.env(old),
            None if std::env::var_os(name).is_some() => argument.env(None::<&str>),
            None => argument,
        }
    })
}

fn read_from(mut arguments: Vec<OsString>) -> Result<Settings, clap::Error> {
    // Without the usage of the command line, which does not help with a file.
    let fail = |sentence| clap::Error::raw(ErrorKind::InvalidValue, format!("{sentence}\n"));
    let given = command().try_get_matches_from(&arguments)?;
    let file = given.get_one::<PathBuf>("config");
    let file = file.map(|path| ConfigFile::read(path, &command())).transpose().map_err(fail)?;
    let from_file = file.iter().flat_map(|file| &file.options);
    let from_file: Vec<_> = from_file.filter(|option| !is_set(&given, &option.id)).collect();
    // Behind the program's name and before any `--`.
    arguments.splice(1..1, from_file.iter().flat_map(|option| option.arguments()));
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments).map_err(|error| {
        let of_file = from_file.iter().find(|option| concerns(&error, &command, option));
        match (&file, of_file) {
            (Some(file), Some(option)) => fail(file.unusable(option, &problem(&error))),
            _ => error,
        }
    })?;
    let options =
        Options::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let values = values(&command, &matches);
    let task = match options.command {
        None => Task::Run,
        Some(ConfigCommand::CheckConfig) => Task::CheckConfig,
        Some(ConfigCommand::PrintConfig) => {
            let source = |argument: &Arg| {
                let id = argument.get_id().as_str();
                let of_file = from_file.iter().find(|option| option.id == id).zip(file.as_ref());
                match (matches.value_source(id), of_file) {
                    (_, Some((option, file))) => file.place(option),
                    (source, None) => config_listing::source(argument, source),
                }
            };
            Task::PrintConfig(config_listing::list(&command, &values, source))
        }
    };
    Ok(Settings {
        router: RouterConfig {
            listen: options.listen,
            unix_mode: options.unix_mode,
            ping_timeout: Some(options.ping_timeout),
            max_frame: bytes(options.max_frame),
            max_connections: options.max_connections,
            limits: Limits {
                services: options.max_services,
                subscriptions: options.max_subscriptions,
                open_calls: options.max_open_calls,
                queued_bytes: bytes(options.queue_limit),
            },
            memory_limit: options.memory_limit.map(bytes),
            stall_timeout: options.stall_timeout,
            write_timeout: options.write_timeout,
            frame_timeout: options.frame_timeout,
            drain_timeout: options.drain_timeout,
            workers: NonZeroUsize::new(options.workers),
            busy_poll: options.busy_poll,
        },
        log_level: options.log_level,
        warnings: Vec::new(),
        task,
        values,
    })
}

/// The values of all options, by their long names.
fn values(command: &Command, matches: &ArgMatches) -> BTreeMap<String, Vec<String>> {
    let texts = |id: &str| {
        let raw = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
        raw.map(|value| value.to_string_lossy().into_owned()).collect()
    };
    let options = command.get_arguments().filter_map(|argument| {
        let name = argument.get_long()?;
        Some((name.to_owned(), texts(argument.get_id().as_str())))
    });
    options.filter(|(name, _)| !NOT_IN_FILES.contains(&name.as_str())).collect()
}

/// Whether a flag or a variable sets an option.
fn is_set(given: &ArgMatches, id: &str) -> bool {
    matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// Whether an error is about an option of the file.
fn concerns(error: &clap::Error, command: &Command, option: &FileOption) -> bool {
    let argument = command.get_arguments().find(|argument| *argument.get_id() == *option.id);
    let invalid = error.get(ContextKind::InvalidArg);
    match (argument, invalid) {
        (Some(argument), Some(ContextValue::String(name))) => *name == argument.to_string(),
        _ => false,
    }
}

/// What is wrong with the value of an option, without the name of the flag.
fn problem(error: &clap::Error) -> String {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => format!("{value:?} cannot be used: "),
        _ => String::new(),
    };
    let valid = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => Some(format!("write one of {}", values.join(", "))),
        _ => None,
    };
    let inner = std::error::Error::source(error).map(ToString::to_string).or(valid);
    value + &inner.unwrap_or_else(|| sentence(error))
}

/// The first line of an error, without the word before it.
pub(crate) fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// A warning for each variable with the prefix of this program that it does not know. `names` are all variables.
fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let command = Options::command();
    let known: Vec<&str> =
        command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    let is_known =
        |name: &str| known.contains(&name) || OLD_VARIABLES.iter().any(|(_, old)| name == *old);
    let is_unknown = |name: &String| name.starts_with(PREFIX) && !is_known(name);
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(is_unknown)
        .map(|name| {
            let advice = nearest(&name, known.iter().copied());
            format!("the environment variable {name} is unknown; {advice}")
        })
        .collect()
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

/// An address to listen on. `:port` stands for all interfaces, over IPv6 and IPv4.
fn listen_address(text: &str) -> Result<Address, String> {
    let text = text.trim();
    let all_interfaces = text.strip_prefix("tcp://").unwrap_or(text);
    let text = if all_interfaces.starts_with(':') {
        format!("[::]{all_interfaces}")
    } else {
        text.to_owned()
    };
    text.parse::<Address>().map_err(|error| error.problem.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text)
        .map_err(|_| "write seconds, or a number with a unit as in 90s or 2m".to_owned())
}

fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| "write bytes, or a number with a unit as in 16MiB".to_owned())
}

/// A size that a peer which reads can take within the stall timeout.
fn queue_limit(text: &str) -> Result<ByteSize, String> {
    match size(text)? {
        size if size < SMALLEST_QUEUE_LIMIT => Err(format!(
            "write at least {SMALLEST_QUEUE_LIMIT}: with less, peers that read would be taken for stalled"
        )),
        size => Ok(size),
    }
}

fn log_levels() -> impl TypedValueParser<Value = log::LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|level| level.parse::<log::LevelFilter>())
}

/// A size that leaves room for a few connections.
fn memory_limit(text: &str) -> Result<ByteSize, String> {
    match size(text)? {
        size if size < SMALLEST_MEMORY_LIMIT => Err(format!(
            "write at least {SMALLEST_MEMORY_LIMIT}: with less, few messages could be queued"
        )),
        size => Ok(size),
    }
}

/// A limit for a number of things.
fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("write at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("write a whole number of at least 1".to_owned()),
    }
}

/// A size that most messages fit into.
fn max_frame(text: &str) -> Result<ByteSize, String> {
    match size(text)? {
        size if bytes(size) < SMALLEST_MAX_FRAME => Err(format!(
            "write at least {SMALLEST_MAX_FRAME} bytes: a smaller limit would refuse most messages"
        )),
        size if bytes(size) > LARGEST_MAX_FRAME => Err(format!(
            "write at most {LARGEST_MAX_FRAME} bytes: peers of this protocol read no larger messages"
        )),
        size => Ok(size),
    }
}

/// A timeout that peers can meet.
fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        timeout if timeout < SHORTEST_TIMEOUT => {
            Err("write at least 1ms: no peer can answer sooner".to_owned())
        }
        timeout => Ok(timeout),
    }
}

/// A timeout, or zero to disable it.
fn ping_timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => timeout(text),
    }
}

fn busy_poll(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time > LONGEST_BUSY_POLL => {
            Err("write at most 1s: a thread that polls takes a whole processor".to_owned())
        }
        time => Ok(time),
    }
}

/// Permissions with which at least the owner can connect.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && mode & 0o200 != 0 => Ok(mode),
        Ok(mode) if mode <= 0o777 => {
            Err("write a mode that lets the owner write, as in 0600: otherwise no peer can connect"
                .to_owned())
        }
        _ => Err("write an octal mode from 0 to 777, as in 0660".to_owned()),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
