//! Identities: what is known of a peer for certain.

/// Who a peer is, as its connection proves it, and not as the peer says. A peer may have several of these.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user id of the process behind a Unix socket, from the kernel.
    pub uid: Option<u32>,
    /// The group ids of that process, from the kernel.
    pub gids: Vec<u32>,
    /// The certificate of a TLS client, which was verified.
    pub certificate: Option<Certificate>,
    /// The name of the token that the peer has shown.
    pub token: Option<String>,
}

/// The names in a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Certificate {
    /// The common name of its subject; empty if it has none.
    pub common_name: String,
    /// Its alternative names: host names, addresses, URIs.
    pub alternative_names: Vec<String>,
}

impl Certificate {
    /// All names, the common one first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let common = Some(self.common_name.as_str()).filter(|name| !name.is_empty());
        common.into_iter().chain(self.alternative_names.iter().map(String::as_str))
    }
}
