//! The body of a request, as the handler of a service reads it from the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;

use crate::engine::intake::CallIntake;
use crate::engine::upload::Upload;
use crate::error::Error;

/// Reads the data of an upload, and grants its caller credit as it reads.
pub(crate) struct UploadReader {
    upload: Arc<Upload>,
    intake: Arc<CallIntake>,
    request_id: String,
    window: usize,
    has_begun: bool,
}

impl UploadReader {
    /// The caller may be `window` bytes ahead.
    pub(crate) fn new(
        upload: Arc<Upload>,
        intake: Arc<CallIntake>,
        request_id: String,
        window: usize,
    ) -> Self {
        UploadReader { upload, intake, request_id, window, has_begun: false }
    }
}

impl Stream for UploadReader {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if !this.has_begun {
            this.has_begun = true;
            this.upload.widen(this.window, |bytes| this.intake.reserve(bytes));
        }
        let (polled, grant) = this.upload.queue.poll_next_granting(cx);
        if grant > 0 {
            this.intake.grant(&this.request_id, grant);
        }
        polled
    }
}
