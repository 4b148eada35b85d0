//! Options from flags, environment variables and a file.
//!
//! There is one parser: the options of the file are added to the command line as flags, except those that a flag or a
//! variable sets.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};
use gsb_router::{Address, Limits, RouterConfig, SMALLEST_MAX_FRAME};

const EXAMPLES: &str = "\
Examples:
  router                                    listens on this user's default address
  router -l tcp://127.0.0.1:7464            listens on TCP
  router -l unix:/run/gsb.sock -l :7464     listens on both, with the same services
  GSB_PING_TIMEOUT=2m router                takes options from environment variables
  router --config /etc/gsb/router.toml      takes them from a file: max-frame = \"16MiB\"

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

/// How many letters of a variable may be wrong for a known one to be suggested.
const TYPING_ERRORS: usize = 3;

/// A shorter timeout would disconnect peers that are alive.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// A thread that polls for longer would take a whole processor.
const LONGEST_BUSY_POLL: Duration = Duration::from_secs(1);

/// Router of the Golem Service Bus. Programs on this host find and call each other by name through it.
#[derive(Debug, Parser)]
#[command(name = "router", version, after_help = EXAMPLES, max_term_width = 100)]
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
}

/// The settings of the program, from all sources.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) router: RouterConfig,
    pub(crate) log_level: log::LevelFilter,
    /// Suspicious settings, to be logged.
    pub(crate) warnings: Vec<String>,
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
    let matches = command().try_get_matches_from(&arguments)?;
    if let Some(file) = matches.get_one::<PathBuf>("config").cloned() {
        let from_file = read_file(&file, &matches)?;
        // Behind the program's name and before any `--`.
        arguments.splice(1..1, from_file.into_iter().map(OsString::from));
    }
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    let options =
        Options::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
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
    })
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
            let distance = |known: &&&str| strsim::damerau_levenshtein(&name, known);
            let nearest = known.iter().min_by_key(distance);
            let advice = match nearest.filter(|known| distance(known) <= TYPING_ERRORS) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => "see --help for the names".to_owned(),
            };
            format!("the environment variable {name} is unknown; {advice}")
        })
        .collect()
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

/// The options of a file that no flag or variable sets, as arguments.
fn read_file(file: &Path, given: &ArgMatches) -> Result<Vec<String>, clap::Error> {
    let known = command();
    let fail = |problem: String| {
        let sentence = format!("configuration file {}: {problem}", file.display());
        command().error(ErrorKind::InvalidValue, sentence)
    };
    let text = std::fs::read_to_string(file).map_err(|error| fail(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error| fail(format!("{error}")))?;
    let mut arguments = Vec::new();
    for (key, value) in table {
        let Some(id) = option_id(&known, &key) else {
            return Err(fail(format!("{key:?} is not an option; see --help for the names")));
        };
        if matches!(
            given.value_source(&id),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        ) {
            continue;
        }
        let values = match value {
            toml::Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let text = match value {
                toml::Value::String(text) => text,
                // TOML knows 0o660 as a number. It would be printed as decimal and parsed as octal.
                toml::Value::Integer(_) if key == "unix-mode" => {
                    return Err(fail(format!("{key} is a number; write {key} = \"0660\" instead")));
                }
                toml::Value::Integer(number) => number.to_string(),
                other => {
                    let kind = other.type_str();
                    return Err(fail(format!(
                        "{key} is of type {kind}; write text or a whole number"
                    )));
                }
            };
            arguments.push(format!("--{key}={text}"));
        }
    }
    Ok(arguments)
}

/// The id of the option with this long name. A file cannot set `config`.
fn option_id(command: &Command, long: &str) -> Option<String> {
    command
        .get_arguments()
        .filter(|argument| argument.get_long() != Some("config"))
        .find(|argument| {
            argument.get_long() == Some(long)
                || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
        })
        .map(|argument| argument.get_id().to_string())
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
mod tests {
    use super::*;

    fn read_all(arguments: &[&str]) -> Result<Settings, String> {
        let arguments = std::iter::once("router").chain(arguments.iter().copied());
        read_from(arguments.map(OsString::from).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn durations_sizes_and_modes_are_read() {
        for (text, seconds) in
            [("2", 2.0), ("90s", 90.0), ("2m", 120.0), ("500ms", 0.5), ("0", 0.0)]
        {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds);
        }
        assert!(duration("soon").is_err());
        assert!(timeout("0").is_err() && timeout("999us").is_err() && timeout("1ms").is_ok());
        assert!(ping_timeout("1ns").is_err() && ping_timeout("0").is_ok());
        assert!(busy_poll("1h").is_err() && busy_poll("0").is_ok());
        assert!(max_frame("1023").is_err() && max_frame("1KiB").is_ok());
        assert!(count("0").is_err() && count("-1").is_err() && count("1").is_ok());
        assert!(queue_limit("63KiB").is_err() && queue_limit("64KiB").is_ok());
        assert_eq!(mode("0660"), Ok(0o660));
        assert!(mode("0999").is_err() && mode("7777").is_err());
        assert!(mode("0").is_err() && mode("0444").is_err() && mode("0200").is_ok());
        let settings = read_all(&["--max-frame", "1MiB", "-l", " :7\n", "-l", "unix:/x"]).unwrap();
        assert_eq!(settings.router.max_frame, 1 << 20);
        let listen: Vec<String> = settings.router.listen.iter().map(Address::to_string).collect();
        assert_eq!(listen, ["tcp://[::]:7", "unix:/x"]);
    }

    #[test]
    fn unknown_variables_are_told_with_the_nearest_name() {
        let names = ["GSB_PING_TIMOUT", "GSB_ULR", "GSB_COLOUR", "GSB_URL", "HOME", "GSB_SPIN"];
        let warnings = unknown_variables(names.into_iter().map(OsString::from));
        let expected = [
            ("GSB_PING_TIMOUT", "did you mean GSB_PING_TIMEOUT?"),
            ("GSB_ULR", "did you mean GSB_URL?"),
            ("GSB_COLOUR", "see --help"),
        ];
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, (name, advice)) in warnings.iter().zip(expected) {
            assert!(warning.contains(name) && warning.contains(advice), "{warning}");
        }
    }

    #[test]
    fn busy_polling_has_its_old_name_too() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("router.toml");
        std::fs::write(&file, "spin = \"7us\"").unwrap();
        for arguments in
            [["--busy-poll", "7us"], ["--spin", "7us"], ["--config", file.to_str().unwrap()]]
        {
            let settings = read_all(&arguments).unwrap();
            assert_eq!(settings.router.busy_poll, Duration::from_micros(7), "{arguments:?}");
        }
    }

    #[test]
    fn limits_of_zero_are_errors() {
        for option in [
            "max-frame",
            "max-connections",
            "max-services",
            "max-subscriptions",
            "max-open-calls",
            "queue-limit",
            "memory-limit",
            "stall-timeout",
            "write-timeout",
            "frame-timeout",
            "workers",
            "unix-mode",
        ] {
            let error = read_all(&[&format!("--{option}=0")]).unwrap_err();
            assert!(error.contains(&format!("--{option} ")), "{error}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let settings = read_all(&[]).unwrap();
        let library = RouterConfig::default();
        assert_eq!(settings.router.ping_timeout, library.ping_timeout);
        assert_eq!(settings.router.max_frame, library.max_frame);
        assert_eq!(settings.router.unix_mode, library.unix_mode);
        assert_eq!(settings.router.limits, library.limits);
    }

    #[test]
    fn a_file_sets_what_flags_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("router.toml");
        let path = file.to_str().unwrap();
        let text = "ping-timeout = 7\nmax-frame = \"2MiB\"\nlisten = [\"unix:/a\", \"unix:/b\"]\n";
        std::fs::write(&file, text).unwrap();
        let settings = read_all(&["--config", path, "--max-frame", "1MiB"]).unwrap();
        assert_eq!(settings.router.ping_timeout, Some(Duration::from_secs(7)));
        assert_eq!(settings.router.max_frame, 1 << 20);
        assert_eq!(settings.router.listen.len(), 2);

        for (text, problem) in [
            ("ping-timout = 7", "ping-timout"),
            ("config = \"x\"", "config"),
            ("workers = 0", "workers"),
            ("workers = true", "boolean"),
            ("unix-mode = 0o660", "0660"),
            ("unix-mode = 660", "0660"),
            ("workers = ", "router.toml"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = read_all(&["--config", path]).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
        let error = read_all(&["--config", "/no/such/file"]).unwrap_err();
        assert!(error.contains("/no/such/file"), "{error}");
    }
}
