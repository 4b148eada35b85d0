//! The handles that users hold. Each is a thin layer over the [`engine`](crate::engine).

pub(crate) mod bind;
pub(crate) mod builder;
pub(crate) mod bus;
pub(crate) mod endpoint;
pub(crate) mod publisher;
pub(crate) mod registration;
pub(crate) mod reply_stream;
pub(crate) mod service;
pub(crate) mod service_builder;
pub(crate) mod status_watch;
pub(crate) mod subscription;
pub(crate) mod topic;
#[cfg(feature = "tower")]
pub(crate) mod tower;
pub(crate) mod typed_upload;
pub(crate) mod upload;
