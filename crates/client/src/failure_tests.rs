use super::*;

fn parse_positive(text: Option<&str>) -> Result<i32, Failure> {
    let text = text.ok_or("there is no text")?;
    let number: i32 = text.parse()?;
    if number < 0 {
        Err(format!("{number} is negative"))?;
    }
    Ok(number)
}

#[test]
fn text_and_errors_become_a_failure() {
    let message = |text| parse_positive(text).map_err(|failure| failure.message().to_owned());
    assert_eq!(message(Some("7")), Ok(7));
    assert_eq!(message(None), Err("there is no text".into()));
    assert_eq!(message(Some("-1")), Err("-1 is negative".into()));
    assert_eq!(message(Some("x")), Err("invalid digit found in string".into()));
    let failures: [Failure; 3] = ["x".into(), String::from("x").into(), Failure::new("x")];
    assert!(failures.iter().all(|failure| *failure == failures[0] && !failure.is_bad_request()));
}

#[test]
fn a_failure_shows_whether_the_caller_is_at_fault() {
    let shown = format!("{:?}", Failure::bad_request("x"));
    assert_eq!(shown, r#"Failure { message: "x", is_bad_request: true }"#);
    assert_ne!(Failure::bad_request("x"), Failure::new("x"));
}
