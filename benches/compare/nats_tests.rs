use super::*;

/// All that stands in `bytes`, which are read whole.
fn all(bytes: &[u8]) -> Vec<Heard<'_>> {
    let (mut done, mut heard) = (0, Vec::new());
    while let Some((next, length)) = Nats::default().next(&bytes[done..]).unwrap() {
        heard.push(next);
        done += length;
    }
    assert_eq!(done, bytes.len());
    heard
}

fn said(number: u64, say: impl FnOnce(&Nats, &mut Vec<u8>)) -> String {
    let (mut nats, mut out) = (Nats::default(), Vec::new());
    nats.greet(number, &mut out);
    out.clear();
    say(&nats, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn lines_and_messages_are_read_in_order() {
    let bytes = b"INFO {\"server_id\":\"x\"}\r\nPONG\r\nPING\r\n+OK\r\n\
        MSG a.b s0 _INBOX.7.3 5\r\nhello\r\n\
        MSG _INBOX.7.3 i 4\r\n\r\n\r\n\r\n\
        MSG news tnews 0\r\n\r\n";
    let expected = [
        Heard::Nothing,
        Heard::Done,
        Heard::Ping,
        Heard::Nothing,
        Heard::Call { reply_to: b"_INBOX.7.3", payload: b"hello" },
        Heard::Reply { id: 3, payload: b"\r\n\r\n", is_error: false, is_last: true },
        Heard::Broadcast { payload: b"" },
    ];
    assert_eq!(all(bytes), expected);
}

#[test]
fn what_is_not_all_there_is_waited_for() {
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
fn what_follows_is_not_looked_at() {
    let (heard, length) = Nats::default().next(b"PONG\r\nnonsense").unwrap().unwrap();
    assert_eq!((heard, length), (Heard::Done, 6));
}

#[test]
fn an_error_is_a_refusal() {
    assert_eq!(
        all(b"-ERR 'Authorization Violation'\r\n"),
        [Heard::Refused("'Authorization Violation'")]
    );
}

#[test]
fn what_cannot_be_read_is_a_failure() {
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
fn what_is_said_is_what_nats_understands() {
    let mut out = Vec::new();
    Nats::default().greet(7, &mut out);
    assert!(String::from_utf8(out).unwrap().ends_with("}\r\nSUB _INBOX.7.* i\r\n"));
    assert_eq!(said(7, |nats, out| nats.serve("/a/b/0", out)), "SUB a.b.0 s0\r\nPING\r\n");
    assert_eq!(said(7, |nats, out| nats.subscribe("/a/1", out)), "SUB a.1 t1\r\nPING\r\n");
    assert_eq!(
        said(7, |nats, out| nats.call("/a/b", 3, b"hello", out)),
        "PUB a.b _INBOX.7.3 5\r\nhello\r\n"
    );
    assert_eq!(
        said(7, |nats, out| nats.reply(b"_INBOX.7.3", b"", true, out)),
        "PUB _INBOX.7.3 0\r\n\r\n"
    );
    assert_eq!(said(7, |nats, out| nats.broadcast("/a", b"x", out)), "PUB a 1\r\nx\r\n");
    assert_eq!(said(7, |nats, out| nats.answer_ping(out)), "PONG\r\n");
}
