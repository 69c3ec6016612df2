//! Bodies as they come: for how long they are waited for, and what becomes of the rest that nobody read.
//!
//! A request may be answered before its body has come: it is too large, or its sender may not do what it asks. A connection that is closed
//! then, with bytes still on their way, is reset, and the client may never see the answer. So the rest is read and thrown away first, as
//! far as is reasonable. How much of a body is read at all is decided by whoever reads it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// How long a client may take to send a body, from the moment on at which somebody waits for it.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// What is read in vain of one body. Whoever sends more may be cut off.
const REST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long it may take to come.
const REST_PATIENCE: Duration = Duration::from_secs(2);

/// A body that is waited for only so long, and leaves what is not read of it.
pub struct Lingering<B> {
    body: Option<B>,
    /// None until it had to be waited for.
    patience: Option<Pin<Box<Sleep>>>,
    rest: Rest<B>,
}

/// Where it is left.
pub struct Rest<B>(Arc<Mutex<Option<B>>>);

/// A body that did not come in time.
#[derive(Debug)]
struct Late;

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it did not come within {} s", BODY_PATIENCE.as_secs())
    }
}

impl std::error::Error for Late {}

impl<B> Lingering<B> {
    /// The body, and what its rest is asked of once it is dropped.
    pub fn new(body: B) -> (Self, Rest<B>)
    where
        B: Body,
    {
        let rest = Arc::default();
        (Self { body: Some(body), patience: None, rest: Rest(Arc::clone(&rest)) }, Rest(rest))
    }
}

impl<B> Body for Lingering<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_PATIENCE)));
        patience.as_mut().poll(context).map(|()| Some(Err(Late.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B> Drop for Lingering<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            *self.rest.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Rest<B> {
    /// Reads what was left, if it comes soon and is not too much.
    pub async fn discard(self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left.filter(|body| !body.is_end_stream()) else { return };
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt as _;

    use super::*;

    /// A body of which this comes, and then nothing for ever.
    struct Stuck(Option<Bytes>);

    impl Body for Stuck {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_waited_for_only_so_long() {
        let (body, rest) = Lingering::new(Stuck(Some(Bytes::from_static(b"a"))));
        let start = tokio::time::Instant::now();
        let failed = body.collect().await.expect_err("it never comes");
        assert_eq!(failed.to_string(), "it did not come within 30 s");
        assert_eq!(start.elapsed().as_secs(), BODY_PATIENCE.as_secs());
        rest.discard().await;
        assert_eq!(start.elapsed().as_secs(), (BODY_PATIENCE + REST_PATIENCE).as_secs(), "nor is its rest");
    }
}
