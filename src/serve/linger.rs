//! The rest of a body that nobody read.
//!
//! A request may be answered before its body has come: it is too large, or its sender may not do what it asks. A connection that is closed
//! then, with bytes still on their way, is reset, and the client may never see the answer. So the rest is read and thrown away first, as
//! far as is reasonable.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// What is read in vain of one body. Whoever sends more may be cut off.
const REST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long it may take to come.
const REST_PATIENCE: Duration = Duration::from_secs(2);

/// A body that leaves what is not read of it.
pub struct Lingering {
    body: Option<Incoming>,
    rest: Rest,
}

/// Where it is left.
#[derive(Clone, Default)]
pub struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Lingering {
    /// The body, and what its rest is asked of once it is dropped.
    pub fn new(body: Incoming) -> (Self, Rest) {
        let rest = Rest::default();
        (Self { body: Some(body), rest: rest.clone() }, rest)
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.rest.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

impl Rest {
    /// Reads what was left, if it comes soon and is not too much.
    pub async fn discard(self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left else { return };
        let discarding = async {
            let mut bytes = 0;
            while bytes <= REST_BYTES_MAX {
                match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                    Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) | None => return,
                }
            }
        };
        // Whoever is too slow is cut off, as without this.
        let _ = tokio::time::timeout(REST_PATIENCE, discarding).await;
    }
}
