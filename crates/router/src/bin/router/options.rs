//! Options from flags, environment and file.
//!
//! There is one parser: what a file says is put into the command line as if it were flags, for options
//! that neither a flag nor a variable has set.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};
use gsb_router::{Address, Limits, RouterConfig, SMALLEST_MAX_FRAME};

const EXAMPLES: &str = "\
Examples:
  router                                    on the default address of this user
  router -l tcp://127.0.0.1:7464            on TCP
  router -l unix:/run/gsb.sock -l :7464     on both; one set of services behind them
  GSB_PING_TIMEOUT=2m router                options may come from the environment
  router --config /etc/gsb/router.toml      or from a file, in which `max-frame = \"16MiB\"`

Without -l, GSB_URL and a file: unix:$XDG_RUNTIME_DIR/gsb.sock, else unix:/tmp/gsb-<uid>/gsb.sock.
A flag wins over the environment, which wins over the file. RUST_LOG wins over --log-level.

Exit codes: 0 stopped by a signal, 2 unusable options, 3 an address cannot be listened on, 1 any
other failure.";

/// What a peer has to read half of within the stall timeout should be more than single messages.
const SMALLEST_QUEUE_LIMIT: ByteSize = ByteSize::kib(64);

/// Variables that had another name before, which still works where the new one is not set.
const OLD_VARIABLES: [(&str, &str); 1] = [("GSB_BUSY_POLL", "GSB_SPIN")];

/// With what the variables of this program begin.
const PREFIX: &str = "GSB_";

/// So many letters may be wrong in a variable that is taken for another.
const TYPING_ERRORS: usize = 3;

/// A shorter timeout ends connections that are alive.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// A thread that polls for longer takes a whole processor.
const LONGEST_BUSY_POLL: Duration = Duration::from_secs(1);

/// Router of the Golem Service Bus: programs on this host find and call each other by name through it.
#[derive(Debug, Parser)]
#[command(name = "router", version, after_help = EXAMPLES, max_term_width = 100)]
struct Options {
    /// Where to listen: unix:/path or tcp://host:port. May be given several times
    #[arg(short, long, env = "GSB_URL", value_name = "URL", value_parser = listen_address)]
    listen: Vec<Address>,

    /// Silence after which a peer gets a Ping; after twice that it is disconnected. Seconds, or with a
    /// unit as in 90s or 2m; 0 waits for ever
    #[arg(long, env = "GSB_PING_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = ping_timeout)]
    ping_timeout: Duration,

    /// Largest message that is accepted. Bytes, or with a unit as in 16MiB
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

    /// Bytes that may wait to be written on one connection's account, for each of: answers to it, its
    /// calls, replies to them, broadcasts to it. Bytes, or with a unit as in 16MiB
    #[arg(long, env = "GSB_QUEUE_LIMIT", value_name = "SIZE", default_value = "16MiB", value_parser = queue_limit)]
    queue_limit: ByteSize,

    /// How long a service may take nothing before the calls that wait for it fail, and a caller before
    /// those whose replies it does not take do
    #[arg(long, env = "GSB_STALL_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = timeout)]
    stall_timeout: Duration,

    /// How long a peer may take nothing of what is to be written to it before it is disconnected
    #[arg(long, env = "GSB_WRITE_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = timeout)]
    write_timeout: Duration,

    /// How long a message that has begun to come may go without another byte before its sender is
    /// disconnected
    #[arg(long, env = "GSB_FRAME_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = timeout)]
    frame_timeout: Duration,

    /// How long open calls are given to end when the router is told to stop; 0 ends them at once
    #[arg(long, env = "GSB_DRAIN_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = duration)]
    drain_timeout: Duration,

    /// Permissions of the socket file of a unix: address, in octal
    #[arg(long, env = "GSB_UNIX_MODE", value_name = "MODE", default_value = "0600", value_parser = mode)]
    unix_mode: u32,

    /// Threads that serve connections, at most as many as leave a processor to the peers
    #[arg(long, env = "GSB_WORKERS", value_name = "COUNT", default_value = "1")]
    workers: NonZeroUsize,

    /// How long a thread without work polls for more before it sleeps. This lowers latency and costs
    /// processor time; it stops by itself where no processor is free. 0 disables it
    #[arg(long, alias = "spin", env = "GSB_BUSY_POLL", value_name = "TIME", default_value = "50us", value_parser = busy_poll)]
    busy_poll: Duration,

    /// What is logged to standard error: off, error, warn, info, debug or trace
    #[arg(long, env = "GSB_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log_level: log::LevelFilter,

    /// A TOML file with any of these options by their long names
    #[arg(long, env = "GSB_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What the program is told, from wherever.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) router: RouterConfig,
    pub(crate) log_level: log::LevelFilter,
    /// What is odd about them, to be logged.
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
            stall_timeout: options.stall_timeout,
            write_timeout: options.write_timeout,
            frame_timeout: options.frame_timeout,
            drain_timeout: options.drain_timeout,
            workers: Some(options.workers),
            busy_poll: options.busy_poll,
        },
        log_level: options.log_level,
        warnings: Vec::new(),
    })
}

/// A warning for each variable that looks like one of this program's and is none. `names` are those that are set.
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
            format!("the variable {name} is not known to this router; {advice}")
        })
        .collect()
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

/// The options that a file sets and nothing else does, as arguments.
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
                // 0o660 is a number in TOML, which would be written in decimal and read as octal.
                toml::Value::Integer(_) if key == "unix-mode" => {
                    return Err(fail(format!("{key} is a number; write text, as in \"0660\"")));
                }
                toml::Value::Integer(number) => number.to_string(),
                other => {
                    let kind = other.type_str();
                    return Err(fail(format!("{key} is a {kind}; write text or a whole number")));
                }
            };
            arguments.push(format!("--{key}={text}"));
        }
    }
    Ok(arguments)
}

/// The id of the option with this long name, other than `config`, which a file cannot set.
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

/// An address to listen on; `:port` is for all interfaces, over IPv6 and IPv4.
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

/// A size with which peers can be told apart that read from those that do not.
fn queue_limit(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>()? {
        size if size < SMALLEST_QUEUE_LIMIT => Err(format!(
            "write at least {SMALLEST_QUEUE_LIMIT}: peers that read would be taken for stalled"
        )),
        size => Ok(size),
    }
}

/// A limit of what there may be.
fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("write at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("write a whole number".to_owned()),
    }
}

/// A size that most messages fit into.
fn max_frame(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>()? {
        size if bytes(size) < SMALLEST_MAX_FRAME => Err(format!(
            "write at least {SMALLEST_MAX_FRAME} bytes: hardly any message would be accepted"
        )),
        size => Ok(size),
    }
}

/// A duration that must leave a peer some time.
fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        timeout if timeout < SHORTEST_TIMEOUT => {
            Err("write at least 1ms: no peer could be served in less".to_owned())
        }
        timeout => Ok(timeout),
    }
}

/// A timeout, or zero for none.
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
            Err("write a mode that lets its owner write, as in 0600: nobody could connect"
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

    // A limit of nothing is as useless from a file or a flag.
    #[test]
    fn limits_of_zero_are_errors() {
        for option in [
            "max-frame",
            "max-connections",
            "max-services",
            "max-subscriptions",
            "max-open-calls",
            "queue-limit",
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
