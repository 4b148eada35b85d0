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
    for (text, seconds) in [("2", 2.0), ("90s", 90.0), ("2m", 120.0), ("500ms", 0.5), ("0", 0.0)] {
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

    for (text, problems) in [
        ("ping-timout = 7", &["line 1, column 1", "ping-timout", "did you mean ping-timeout?"][..]),
        ("\n\n  colour = 7", &["line 3, column 3", "colour", "see --help"]),
        ("config = \"x\"", &["config"]),
        ("x.y = 1", &["\"x\" is not an option"]),
        ("workers = 0", &["line 1, column 1", "workers: \"0\" cannot be used: write at least 1"]),
        ("log-level = \"loud\"", &["write one of off, error, warn"]),
        ("listen = [\"unix:/a\",\n  7.5]", &["line 2, column 3", "listen is a fraction"]),
        ("workers = true", &["column 11", "boolean"]),
        ("workers = {}", &["table"]),
        ("workers = []", &["line 1, column 1", "empty list"]),
        ("workers = [1, 2]", &["write one value"]),
        ("max-frame = \"200MiB\"", &["line 1", "write at most"]),
        ("max-frame = 0x400", &["decimal"]),
        ("unix-mode = 0o660", &["0660"]),
        ("unix-mode = 660", &["0660"]),
        ("busy-poll = 1\nspin = 1", &["line 2, column 1", "another name of busy-poll"]),
        ("workers = 1\nworkers = 1", &["line 2, column 1", "duplicate"]),
        ("workers = ", &["line 1, column 11"]),
        ("\u{e4} = 1", &["line 1"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = read_all(&["--config", path]).unwrap_err();
        assert!(error.contains("router.toml"), "{text}: {error}");
        assert!(!error.contains("Usage") && error.trim_end().lines().count() == 1, "{error}");
        for problem in problems {
            assert!(error.contains(problem), "{text}: {error}, not {problem}");
        }
    }
    let error = read_all(&["--config", "/no/such/file"]).unwrap_err();
    assert!(error.contains("/no/such/file"), "{error}");
}

#[test]
fn the_listing_names_the_sources_and_is_a_file_itself() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("router.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "listen = ['unix:/a \"b\"', ':7']\nspin = '7us'\nmax-frame = '1MiB'")
        .unwrap();
    let arguments = ["print-config", "--config", path, "--queue-limit=1MiB", "--max-frame=2MiB"];
    let Task::PrintConfig(listing) = read_all(&arguments).unwrap().task else {
        panic!("another task");
    };
    for (setting, source) in [
        ("listen = ['unix:/a \"b\"', \":7\"]", "router.toml, line 1"),
        ("busy-poll = \"7us\"", "router.toml, line 2"),
        ("max-frame = \"2MiB\"", "the flag --max-frame"),
        ("queue-limit = \"1MiB\"", "the flag --queue-limit"),
        ("workers = \"1\"", "the default"),
    ] {
        let is_line = |line: &str| line.starts_with(setting) && line.ends_with(source);
        assert!(listing.lines().any(is_line), "no {setting} from {source}:\n{listing}");
    }
    std::fs::write(&file, &listing).unwrap();
    let again = read_all(&["check-config", "--config", path]).unwrap();
    assert!(matches!(again.task, Task::CheckConfig));
    assert_eq!(again.router.busy_poll, Duration::from_micros(7));
    assert_eq!((again.router.max_frame, again.router.listen.len()), (2 << 20, 2));
}

#[test]
fn addresses_that_are_the_same_are_found_by_a_check() {
    let config = |listen: &[&str]| {
        let flags: Vec<_> = listen.iter().flat_map(|address| ["-l", *address]).collect();
        read_all(&flags).unwrap().router
    };
    assert!(gsb_router::Router::check(&config(&["unix:/a", "unix:/b"])).is_ok());
    let error = gsb_router::Router::check(&config(&["unix:/a", "unix:/b", "unix:/a"])).unwrap_err();
    assert!(error.to_string().contains("name it once"), "{error}");
}
