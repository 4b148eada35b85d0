use super::*;

/// All messages in `bytes`.
fn all(bytes: &[u8]) -> Vec<Incoming<'_>> {
    let (mut done, mut messages) = (0, Vec::new());
    while let Some((next, length)) = Nats::default().next(&bytes[done..]).unwrap() {
        messages.push(next);
        done += length;
    }
    assert_eq!(done, bytes.len());
    messages
}

fn encoded(number: u64, encode: impl FnOnce(&Nats, &mut Vec<u8>)) -> String {
    let (mut nats, mut out) = (Nats::default(), Vec::new());
    nats.hello(number, &mut out);
    out.clear();
    encode(&nats, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn lines_and_messages_are_parsed_in_order() {
    let bytes = b"INFO {\"server_id\":\"x\"}\r\nPONG\r\nPING\r\n+OK\r\n\
        MSG a.b s0 _INBOX.7.3 5\r\nhello\r\n\
        MSG _INBOX.7.3 i 4\r\n\r\n\r\n\r\n\
        MSG news tnews 0\r\n\r\n";
    let expected = [
        Incoming::Ignored,
        Incoming::Done,
        Incoming::Ping,
        Incoming::Ignored,
        Incoming::Call { reply_to: b"_INBOX.7.3", payload: b"hello" },
        Incoming::Reply { id: 3, payload: b"\r\n\r\n", code: 0, is_last: true },
        Incoming::Broadcast { payload: b"" },
    ];
    assert_eq!(all(bytes), expected);
}

#[test]
fn an_incomplete_message_is_not_parsed() {
    for whole in ["PONG\r\n", "MSG _INBOX.7.12 i 5\r\nhello\r\n", "INFO {}\r\n", "-ERR 'x'\r\n"] {
        let bytes = whole.as_bytes();
        for length in 0..bytes.len() {
            let next = Nats::default().next(&bytes[..length]).unwrap();
            assert_eq!(next, None, "{length} bytes of {whole:?}");
        }
        assert_eq!(all(bytes).len(), 1);
    }
}

#[test]
fn bytes_behind_a_message_are_not_parsed() {
    let (incoming, length) = Nats::default().next(b"PONG\r\nnonsense").unwrap().unwrap();
    assert_eq!((incoming, length), (Incoming::Done, 6));
}

#[test]
fn an_error_is_a_refusal() {
    assert_eq!(
        all(b"-ERR 'Authorization Violation'\r\n"),
        [Incoming::Refused { code: 0, message: "'Authorization Violation'" }]
    );
}

#[test]
fn unknown_lines_are_a_failure() {
    let long = "x".repeat(LONGEST_LINE);
    for bytes in [
        "NEWS\r\n",
        "\r\n",
        "MSG a s0\r\n",
        "MSG a s0 x\r\n",
        "MSG a s0 -1\r\n",
        "MSG a s0 99999999999999999999\r\n",
        "MSG a s0 18446744073709551615\r\n",
        "MSG a s0 1\r\nabc",
        "MSG a z 1\r\na\r\n",
        "MSG _INBOX.7.x i 1\r\na\r\n",
        &long,
    ] {
        let next = Nats::default().next(bytes.as_bytes());
        assert!(matches!(next, Err(Failure::Protocol(_))), "{:.40}: {next:?}", bytes);
    }
}

#[test]
fn messages_are_encoded_as_nats_expects() {
    let mut out = Vec::new();
    Nats::default().hello(7, &mut out);
    assert!(String::from_utf8(out).unwrap().ends_with("}\r\nSUB _INBOX.7.* i\r\n"));
    for (is_shared, line) in
        [(false, "SUB a.b.0 s0\r\nPING\r\n"), (true, "SUB a.b.0 services s0\r\nPING\r\n")]
    {
        assert_eq!(encoded(7, |nats, out| nats.register("/a/b/0", is_shared, out)), line);
    }
    assert_eq!(encoded(7, |nats, out| nats.subscribe("/a/1", out)), "SUB a.1 t1\r\nPING\r\n");
    assert_eq!(
        encoded(7, |nats, out| nats.call("/a/b", 3, b"hello", 0, out)),
        "PUB a.b _INBOX.7.3 5\r\nhello\r\n"
    );
    assert_eq!(
        encoded(7, |nats, out| nats.reply(b"_INBOX.7.3", b"", true, out)),
        "PUB _INBOX.7.3 0\r\n\r\n"
    );
    assert_eq!(encoded(7, |nats, out| nats.broadcast("/a", b"x", out)), "PUB a 1\r\nx\r\n");
    assert_eq!(encoded(7, |nats, out| nats.pong(out)), "PONG\r\n");
    assert_eq!(encoded(7, |nats, out| nats.ping(out)), "PING\r\n");
}
