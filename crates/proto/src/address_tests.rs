use super::*;

fn parsed(text: &str) -> Result<String, &'static str> {
    text.parse::<Address>().map(|address| address.to_string()).map_err(|error| error.problem)
}

#[test]
fn addresses_are_read() {
    let cases = [
        ("tcp://localhost:1", "tcp://localhost:1"),
        ("localhost:1", "tcp://localhost:1"),
        ("127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://example.org", "tcp://example.org:7464"),
        ("tcp://example.org/", "tcp://example.org:7464"),
        ("localhost", "tcp://localhost:7464"),
        ("[::1]:5", "tcp://[::1]:5"),
        ("tcp://[::1]", "tcp://[::1]:7464"),
        ("unix:/tmp/a b.sock", "unix:/tmp/a b.sock"),
        ("unix:///tmp/x", "unix:/tmp/x"),
    ];
    for (text, expected) in cases {
        assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        assert_eq!(parsed(expected).as_deref(), Ok(expected), "{expected}");
    }
}

#[test]
fn bad_addresses_are_errors_that_help() {
    let long = format!("unix:/{}", "x".repeat(107));
    let cases = [
        ("", "host is missing"),
        (":7464", "host is missing"),
        ("tcp://", "host is missing"),
        ("tcp://:1", "host is missing"),
        ("host:", "port"),
        ("host:65536", "port"),
        ("host:-1", "port"),
        ("host:http", "port"),
        ("::1", "brackets"),
        ("[::1", "bracket"),
        ("[host]:1", "IPv6"),
        ("[::1]7", "colon"),
        ("ho st:1", "character"),
        ("user@host:1", "character"),
        ("http://host:1", "tcp://"),
        ("/tmp/gsb.sock", "unix:"),
        ("unix:", "absolute"),
        ("unix:gsb.sock", "absolute"),
        ("unix://host/path", "unix:/path"),
        ("unix:/", "directory"),
        ("unix:/tmp/", "directory"),
        ("unix:/a\0b", "NUL"),
        (&long, "too long"),
    ];
    for (text, expected) in cases {
        let problem = parsed(text).unwrap_err();
        assert!(problem.contains(expected), "{text:?}: {problem}");
    }
}

#[test]
fn the_environment_names_the_default() {
    let resolve = |url: Option<&str>, directory: Option<&str>| {
        Address::resolve(url.map(Into::into), directory.map(Into::into), 1000).unwrap().to_string()
    };
    assert_eq!(resolve(Some("h:1"), Some("/run/user/1000")), "tcp://h:1");
    assert_eq!(resolve(None, Some("/run/user/1000")), "unix:/run/user/1000/gsb.sock");
    assert_eq!(resolve(None, None), "unix:/tmp/gsb-1000.sock");
}
