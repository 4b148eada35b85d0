//! The address of a router.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The TCP port of an address without a port.
pub const DEFAULT_PORT: u16 = 7464;

/// The environment variable with the address of the bus, for routers and clients.
pub const URL_VARIABLE: &str = "GSB_URL";

/// The environment variable with a user's directory for sockets (XDG Base Directory Specification).
const RUNTIME_DIRECTORY: &str = "XDG_RUNTIME_DIR";

/// The problem of a default address that is not usable. Only this variable can cause it.
const BAD_RUNTIME_DIRECTORY: &str = "set XDG_RUNTIME_DIR to an absolute path of at most 98 bytes, \
                                     or GSB_URL to another address";

/// Longest path of a Unix socket, in bytes: what fits into `sockaddr_un` with its final NUL.
const MAX_UNIX_PATH: usize = 107;

/// The address of a router: `tcp://host:port`, `host:port`, `unix:/path` or `unix:///path`.
///
/// The port is optional after `tcp://host`; it defaults to [`DEFAULT_PORT`]. White space around an address, such as the
/// newline at the end of a file, is ignored.
///
/// ```
/// use gsb_proto::Address;
///
/// let address: Address = "localhost:7464".parse()?;
/// assert_eq!(address.to_string(), "tcp://localhost:7464");
/// assert_eq!("tcp://[::1]".parse::<Address>()?.to_string(), "tcp://[::1]:7464");
/// assert_eq!("unix:///run/gsb.sock".parse::<Address>()?.to_string(), "unix:/run/gsb.sock");
/// # Ok::<_, gsb_proto::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or IP address (IPv6 without brackets), and a port.
    Tcp {
        /// Host name or IP address.
        host: String,
        /// Port; a listener on port 0 chooses a free one.
        port: u16,
    },
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

/// Why a string is not the address of a router.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} is not the address of a router: {problem}")]
pub struct AddressError {
    /// The string.
    pub address: String,
    /// What is wrong with it, and what to write instead.
    pub problem: &'static str,
}

impl Address {
    /// The address that routers and clients use by default: that in `GSB_URL`, or [the default of this
    /// user](Address::user_default) if the variable is empty or not set.
    ///
    /// # Errors
    /// `GSB_URL` is not an address, or `XDG_RUNTIME_DIR` cannot be used as in
    /// [`user_default`](Address::user_default).
    pub fn from_environment() -> Result<Address, AddressError> {
        match variable(URL_VARIABLE) {
            Some(url) => parse_os(url),
            None => Address::user_default(),
        }
    }

    /// The default address of this user: `unix:$XDG_RUNTIME_DIR/gsb.sock`, or `unix:/tmp/gsb-<uid>/gsb.sock` if the
    /// variable is empty or not set.
    ///
    /// # Errors
    /// `XDG_RUNTIME_DIR` is not an absolute path, or is too long for a Unix socket.
    pub fn user_default() -> Result<Address, AddressError> {
        default_of(variable(RUNTIME_DIRECTORY), rustix::process::getuid().as_raw())
    }

    /// Whether this is [the default address of this user](Address::user_default) and `GSB_URL` does not override it.
    /// Clients connect to a default address only if this user or root serves it.
    pub fn is_user_default(&self) -> bool {
        variable(URL_VARIABLE).is_none() && Address::user_default().as_ref() == Ok(self)
    }
}

/// An environment variable; `None` if it is empty or not set.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn default_of(runtime_directory: Option<OsString>, uid: u32) -> Result<Address, AddressError> {
    let mut text = OsString::from("unix:");
    match runtime_directory {
        Some(directory) => text.push(directory),
        None => text.push(format!("/tmp/gsb-{uid}")),
    }
    text.push("/gsb.sock");
    parse_os(text).map_err(|error| AddressError { problem: BAD_RUNTIME_DIRECTORY, ..error })
}

fn parse_os(text: OsString) -> Result<Address, AddressError> {
    match text.into_string() {
        Ok(text) => text.parse(),
        Err(text) => Err(AddressError {
            address: text.to_string_lossy().into_owned(),
            problem: "it is not UTF-8",
        }),
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let trimmed = text.trim();
        let parsed = if let Some(path) = trimmed.strip_prefix("unix:") {
            parse_unix(path)
        } else if let Some(rest) = trimmed.strip_prefix("tcp://") {
            parse_tcp(rest.strip_suffix('/').unwrap_or(rest))
        } else if trimmed.is_empty() {
            Err("it is empty; write tcp://host:port or unix:/path")
        } else if trimmed.contains("://") {
            Err("the scheme must be tcp:// or unix:")
        } else if trimmed.contains('/') {
            Err("for a Unix socket, write unix: before the path")
        } else if !trimmed.contains(':') {
            // More likely a file name, or a host with a forgotten scheme, than a host.
            Err("write tcp:// before a host without a port, or unix: before an absolute path")
        } else {
            parse_tcp(trimmed)
        };
        parsed.map_err(|problem| AddressError { address: text.to_owned(), problem })
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&Address> for Address {
    type Error = AddressError;

    /// Clones the address. Never fails.
    fn try_from(address: &Address) -> Result<Self, AddressError> {
        Ok(address.clone())
    }
}

fn parse_unix(path: &str) -> Result<Address, &'static str> {
    // unix:///path is unix:/path. unix://host/path would be a socket of another machine.
    let path = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => return Err("write unix:/path or unix:///path"),
        None => path,
    };
    if !path.starts_with('/') {
        return Err("the path of a Unix socket must be absolute, as in unix:/tmp/gsb.sock");
    }
    if path.ends_with('/') {
        return Err("the path names a directory; write the path of the socket itself");
    }
    if path.contains('\0') {
        return Err("the path contains a NUL byte");
    }
    if path.len() > MAX_UNIX_PATH {
        return Err("the path is too long for a Unix socket: at most 107 bytes are allowed");
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

fn parse_tcp(text: &str) -> Result<Address, &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or("the bracket around the IPv6 address is not closed")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("brackets must hold an IPv6 address, as in [::1]:7464");
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err("write the port after a colon, as in [::1]:7464"),
        }
    } else {
        match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err("an IPv6 address needs brackets, as in [::1]:7464");
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let valid = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() {
        return Err("the host is missing, as in localhost:7464");
    }
    if !host.chars().all(valid) {
        return Err("the host contains a character that is not allowed in host names");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map_err(|_| "the port must be a number from 0 to 65535")?
        }
        Some(_) => return Err("the port must be a number from 0 to 65535"),
    };
    Ok(Address::Tcp { host: host.to_owned(), port })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
