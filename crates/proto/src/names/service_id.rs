//! Service ids.

use std::sync::Arc;

use super::check::{NameError, check, checked_name};

/// The name under which a service is registered. Cheap to clone.
///
/// It has 1 to [`MAX_NAME`](super::MAX_NAME) bytes of UTF-8, without control characters and white space. A `/` separates
/// its segments, and none of them is empty, except the one before a leading `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(Arc<str>);

checked_name!(ServiceId, check);
