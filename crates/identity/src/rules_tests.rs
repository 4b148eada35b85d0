use proptest::prelude::*;

use super::*;
use crate::identity::Certificate;

/// The rules of a text in TOML.
fn rules(text: &str) -> Result<Rules, (usize, RuleError)> {
    #[derive(Deserialize)]
    struct Config {
        rule: Vec<RuleConfig>,
    }
    Rules::new(&toml::from_str::<Config>(text).unwrap().rule)
}

fn user(uid: u32) -> Identity {
    Identity { uid: Some(uid), ..Identity::default() }
}

#[test]
fn subjects_mean_what_the_connection_proves() {
    let certificate = Certificate {
        common_name: "plugin-7".to_owned(),
        alternative_names: vec!["a.example.org".to_owned(), "spiffe://bus/x".to_owned()],
    };
    let nothing = Identity::default();
    let process = Identity { gids: vec![5, 6], ..user(1000) };
    let tls = Identity { certificate: Some(certificate), ..Identity::default() };
    let token = Identity { token: Some("ci".to_owned()), ..Identity::default() };
    for (subject, included) in [
        ("anyone", [true, true, true, true]),
        ("uid:1000", [false, true, false, false]),
        ("uid:0", [false; 4]),
        ("gid:6", [false, true, false, false]),
        ("gid:1000", [false; 4]),
        ("certificate:plugin-7", [false, false, true, false]),
        ("certificate:PLUGIN-7", [false, false, true, false]),
        ("certificate:*.example.org", [false, false, true, false]),
        ("certificate:*.org", [false; 4]),
        ("certificate:*.a.example.org", [false; 4]),
        ("certificate:spiffe://bus/x", [false, false, true, false]),
        ("token:ci", [false, false, false, true]),
        ("token:CI", [false; 4]),
    ] {
        let parsed: Subject = subject.parse().unwrap();
        assert_eq!(parsed.to_string(), subject);
        let seen = [&nothing, &process, &tls, &token].map(|identity| parsed.includes(identity));
        assert_eq!(seen, included, "{subject}");
    }
    for invalid in ["", "everyone", "uid:", "uid:x", "uid:-1", "certificate:", "token:", "user:me"]
    {
        let error = invalid.parse::<Subject>().unwrap_err();
        assert!(error.to_string().contains(invalid), "{error}");
    }
}

#[test]
fn deny_wins_and_nothing_is_allowed_by_default() {
    let rules = rules(
        r#"
        [[rule]]
        for = ["anyone"]
        call = ["/public/**"]
        subscribe = ["news/**"]
        deny-broadcast = ["news/secret"]

        [[rule]]
        for = ["uid:1"]
        register = ["/public/*"]
        call = ["**"]
        deny-call = ["/admin/**"]
        broadcast = ["news/**"]
        "#,
    )
    .unwrap();
    let (anyone, one) = (rules.policy(&user(7)), rules.policy(&user(1)));
    for (policy, verb, name, allowed) in [
        (&anyone, Verb::Call, "/public/clock/now", true),
        (&anyone, Verb::Call, "/private", false),
        (&anyone, Verb::Register, "/public/x", false),
        (&anyone, Verb::Inspect, "/public/x", false),
        (&one, Verb::Call, "/private", true),
        (&one, Verb::Call, "/admin/stop", false),
        (&one, Verb::Register, "/public/x", true),
        (&one, Verb::Register, "/public/x/y", false),
        (&one, Verb::Register, "/public/**", true),
    ] {
        assert_eq!(policy.allows_name(verb, name), allowed, "{verb:?} {name}");
    }
    for (policy, verb, topic, allowed) in [
        (&anyone, Verb::Subscribe, "news/a", true),
        (&anyone, Verb::Subscribe, "news/**", true),
        (&anyone, Verb::Subscribe, "**", false),
        (&anyone, Verb::Broadcast, "news/a", false),
        (&one, Verb::Broadcast, "news/a", true),
        (&one, Verb::Broadcast, "news/*", false),
        (&one, Verb::Broadcast, "news/secret", false),
    ] {
        let topic = Topic::new(topic).unwrap();
        assert_eq!(policy.allows_topic(verb, &topic), allowed, "{verb:?} {topic}");
    }
    for verb in Verb::ALL {
        assert!(Policy::unlimited().allows_name(verb, "/x/y"));
        assert!(Policy::unlimited().allows_topic(verb, &Topic::new("**").unwrap()));
    }
}

#[test]
fn unusable_rules_are_named() {
    for (text, number, problem) in [
        ("[[rule]]\ncall = ['**']", 1, "for = "),
        ("[[rule]]\nfor = ['anyone']\n[[rule]]\nfor = ['root']", 2, "\"root\""),
        ("[[rule]]\nfor = ['anyone']\ndeny-call = ['a//b']", 1, "deny-call"),
    ] {
        let (found, error) = rules(text).unwrap_err();
        assert_eq!(found, number);
        assert!(error.to_string().contains(problem), "{error}");
    }
    assert!(toml::from_str::<RuleConfig>("cal = []").unwrap_err().to_string().contains("cal"));
}

const PATTERN: &str = r"(a|b|\*|\*\*)(/(a|b|\*|\*\*)){0,2}";
const NAME: &str = "(a|b|c)(/(a|b|c)){0,3}";

proptest! {
    // The compiled rules, compared with a naive reading of them. Patterns alone are compared in gsb-proto.
    #[test]
    fn a_policy_is_what_the_rules_say(
        written in proptest::collection::vec(
            (0..3u32, proptest::collection::vec(PATTERN, 0..3), proptest::collection::vec(PATTERN, 0..2)),
            0..5,
        ),
        uid in 0..3u32,
        names in proptest::collection::vec(NAME, 1..10),
    ) {
        let config: Vec<_> = written
            .iter()
            .map(|(uid, allow, deny)| RuleConfig {
                subjects: vec![if *uid == 0 { "anyone".to_owned() } else { format!("uid:{uid}") }],
                call: allow.clone(),
                deny_call: deny.clone(),
                ..RuleConfig::default()
            })
            .collect();
        let policy = Rules::new(&config).unwrap().policy(&user(uid));
        let concerned = || written.iter().filter(|(of, ..)| *of == 0 || *of == uid);
        for name in &names {
            let is_meant = |pattern: &String| Topic::new(pattern).unwrap().stands_for(name);
            let allowed = concerned().any(|(_, allow, _)| allow.iter().any(is_meant))
                && !concerned().any(|(_, _, deny)| deny.iter().any(is_meant));
            prop_assert_eq!(policy.allows_name(Verb::Call, name), allowed, "{}", name);
            let topic = Topic::new(name).unwrap();
            prop_assert_eq!(policy.allows_topic(Verb::Call, &topic), allowed, "{}", name);
        }
    }
}
