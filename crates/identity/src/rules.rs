//! Permission rules, as they are written in the configuration.

use std::fmt;
use std::str::FromStr;

use gsb_proto::{NameError, Topic};
use serde::Deserialize;

use crate::identity::Identity;
use crate::policy::{Gate, Policy, Verb};

/// A rule as it is written in the configuration: for some identities, the names and topics that they may use, and those that
/// they may not, as patterns. In a pattern, the segment `*` stands for one segment, and `**` for any number.
///
/// ```toml
/// [[rule]]
/// for = ["uid:1000", "token:ci"]
/// register = ["/public/**"]
/// call = ["**"]
/// deny-call = ["/admin/**"]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RuleConfig {
    /// The [subjects](Subject) of the rule, as text.
    #[serde(rename = "for")]
    pub subjects: Vec<String>,
    /// Services that may be registered.
    pub register: Vec<String>,
    /// Services that may not be registered.
    pub deny_register: Vec<String>,
    /// Addresses that may be called.
    pub call: Vec<String>,
    /// Addresses that may not be called.
    pub deny_call: Vec<String>,
    /// Topics that may be subscribed.
    pub subscribe: Vec<String>,
    /// Topics that may not be subscribed.
    pub deny_subscribe: Vec<String>,
    /// Topics that may be broadcast to.
    pub broadcast: Vec<String>,
    /// Topics that may not be broadcast to.
    pub deny_broadcast: Vec<String>,
    /// Services that may be seen in listings.
    pub inspect: Vec<String>,
    /// Services that may not be seen in listings.
    pub deny_inspect: Vec<String>,
}

/// An identity, or a kind of identities, that a rule concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `anyone`: every peer, even if its connection proves nothing.
    Anyone,
    /// `uid:1000`: the processes of a user, over a Unix socket.
    Uid(u32),
    /// `gid:1000`: the processes of a group, over a Unix socket.
    Gid(u32),
    /// `certificate:plugin-7` or `certificate:*.example.org`: a name in a verified certificate. `*.` at the beginning stands for
    /// one label.
    Certificate(String),
    /// `token:ci`: the token with this name.
    Token(String),
}

/// Why a rule cannot be used. The text names the value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The rule concerns no identity.
    #[error("the rule has no `for`; write for = [\"anyone\"], or the identities that it is for")]
    NoSubject,
    /// The subject is not written as one.
    #[error(
        "{0:?} is not an identity; write anyone, uid:NUMBER, gid:NUMBER, certificate:NAME or token:NAME"
    )]
    Subject(String),
    /// The pattern is not a valid name.
    #[error("{key} has an invalid pattern: {problem}")]
    Pattern {
        /// The key in the rule.
        key: &'static str,
        /// What is wrong with the pattern.
        problem: NameError,
    },
}

impl FromStr for Subject {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let invalid = || RuleError::Subject(text.to_owned());
        let number = |number: &str| number.parse().map_err(|_| invalid());
        match text.split_once(':') {
            None if text == "anyone" => Ok(Subject::Anyone),
            Some(("uid", id)) => number(id).map(Subject::Uid),
            Some(("gid", id)) => number(id).map(Subject::Gid),
            Some(("certificate", name)) if !name.is_empty() => {
                Ok(Subject::Certificate(name.to_owned()))
            }
            Some(("token", name)) if !name.is_empty() => Ok(Subject::Token(name.to_owned())),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Anyone => f.write_str("anyone"),
            Subject::Uid(id) => write!(f, "uid:{id}"),
            Subject::Gid(id) => write!(f, "gid:{id}"),
            Subject::Certificate(name) => write!(f, "certificate:{name}"),
            Subject::Token(name) => write!(f, "token:{name}"),
        }
    }
}

impl Subject {
    /// Whether an identity is meant.
    pub fn includes(&self, identity: &Identity) -> bool {
        match self {
            Subject::Anyone => true,
            Subject::Uid(uid) => identity.uid == Some(*uid),
            Subject::Gid(gid) => identity.gids.contains(gid),
            Subject::Certificate(pattern) => {
                let certificate = identity.certificate.iter();
                certificate.flat_map(|it| it.names()).any(|name| is_named(pattern, name))
            }
            Subject::Token(name) => identity.token.as_ref() == Some(name),
        }
    }
}

/// Whether a name of a certificate is meant, without regard to upper and lower case, as in host names.
fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern.eq_ignore_ascii_case(name),
        Some(domain) => name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain)),
    }
}

#[derive(Debug, Clone)]
struct Rule {
    subjects: Vec<Subject>,
    /// By [`Verb`].
    gates: [Gate; Verb::ALL.len()],
}

/// The permission rules of a router. Without rules nothing is allowed.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Checks and compiles the rules of the configuration.
    ///
    /// # Errors
    /// The number of the first rule that cannot be used, counted from 1, and why.
    pub fn new(rules: &[RuleConfig]) -> Result<Self, (usize, RuleError)> {
        let numbered = (1..).zip(rules);
        let compiled =
            numbered.map(|(number, rule)| Rule::new(rule).map_err(|error| (number, error)));
        compiled.collect::<Result<_, _>>().map(Rules)
    }

    /// What an identity may do: what a rule for it allows and no rule for it denies.
    pub fn policy(&self, identity: &Identity) -> Policy {
        let mut policy = Policy::default();
        for rule in &self.0 {
            if rule.subjects.iter().any(|subject| subject.includes(identity)) {
                policy.add(&rule.gates);
            }
        }
        policy
    }
}

impl Rule {
    fn new(rule: &RuleConfig) -> Result<Self, RuleError> {
        if rule.subjects.is_empty() {
            return Err(RuleError::NoSubject);
        }
        let subjects = rule.subjects.iter().map(|subject| subject.parse());
        let subjects = subjects.collect::<Result<_, _>>()?;
        let gate = |(allow_key, allow): (&'static str, _), (deny_key, deny): (&'static str, _)| {
            Ok(Gate { allow: patterns(allow_key, allow)?, deny: patterns(deny_key, deny)? })
        };
        // In the order of `Verb::ALL`.
        let gates = [
            gate(("register", &rule.register), ("deny-register", &rule.deny_register))?,
            gate(("call", &rule.call), ("deny-call", &rule.deny_call))?,
            gate(("subscribe", &rule.subscribe), ("deny-subscribe", &rule.deny_subscribe))?,
            gate(("broadcast", &rule.broadcast), ("deny-broadcast", &rule.deny_broadcast))?,
            gate(("inspect", &rule.inspect), ("deny-inspect", &rule.deny_inspect))?,
        ];
        Ok(Rule { subjects, gates })
    }
}

fn patterns(key: &'static str, texts: &[String]) -> Result<Vec<Topic>, RuleError> {
    let pattern =
        |text: &String| Topic::new(text).map_err(|problem| RuleError::Pattern { key, problem });
    texts.iter().map(pattern).collect()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
