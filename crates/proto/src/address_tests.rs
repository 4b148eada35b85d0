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
        ("tcp://localhost", "tcp://localhost:7464"),
        (" localhost:1\n", "tcp://localhost:1"),
        ("\ttcp://[::1]:2 ", "tcp://[::1]:2"),
        ("unix:/tmp/x \r\n", "unix:/tmp/x"),
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
        ("", "empty"),
        (" \n", "empty"),
        ("foo", "tcp://"),
        ("localhost", "tcp://"),
        ("gsb.sock", "unix:"),
        ("unix: /tmp/x", "absolute"),
        ("tcp:// host:1", "character"),
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
fn the_default_is_in_a_directory_of_the_user() {
    let default = |directory: Option<&str>| {
        default_of(directory.map(Into::into), 1000).map(|address| address.to_string())
    };
    assert_eq!(default(Some("/run/user/1000")).unwrap(), "unix:/run/user/1000/gsb.sock");
    assert_eq!(default(None).unwrap(), "unix:/tmp/gsb-1000/gsb.sock");
    // The error names the variable that the user set.
    for bad in ["relative", &format!("/{}", "x".repeat(98))] {
        let error = default(Some(bad)).unwrap_err().to_string();
        assert!(error.contains("XDG_RUNTIME_DIR") && error.contains(bad), "{error}");
    }
    assert!(default(Some(&format!("/{}", "x".repeat(97)))).is_ok());
}
