//! Changes as they happen: the API's server-sent events, resumed after a break.

use super::{Client, Error};
use futures_util::{Stream, StreamExt as _};
use reqwest::Method;
use serde_json::Value;
use std::pin::Pin;
use std::time::Duration;

/// The pause before a broken stream is asked for again.
const RETRY: Duration = Duration::from_millis(500);
/// One event, at most; an instance has 64 KiB.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// One event of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// put, remove, synced, resync.
    pub event: String,
    pub data: Value,
}

type Body = Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>;

/// A watch that goes on over breaks: duplicates may occur, gaps never.
pub struct Events {
    client: Client,
    path: String,
    last_id: Option<String>,
    body: Option<Body>,
    unread: Vec<u8>,
}

impl Events {
    pub(super) fn new(client: Client, path: String) -> Self {
        Self { client, path, last_id: None, body: None, unread: Vec::new() }
    }

    /// The next event.
    ///
    /// # Errors
    /// The agent cannot be reached or refuses, before the first event only; later the watch waits until it is back.
    pub async fn next(&mut self) -> Result<Happened, Error> {
        loop {
            if let Some(event) = self.take_event() {
                return Ok(event);
            }
            let Some(body) = &mut self.body else {
                match self.connect().await {
                    Err(why) if self.last_id.is_none() || matches!(why, Error::Refused(_)) => return Err(why),
                    Err(_) => tokio::time::sleep(RETRY).await,
                    Ok(()) => {}
                }
                continue;
            };
            match body.next().await {
                Some(Ok(bytes)) if self.unread.len() <= EVENT_BYTES_MAX => {
                    self.unread.extend_from_slice(&bytes);
                }
                // Ended, broken or talking nonsense: begin again where the last event was.
                _ => (self.body, self.unread) = (None, Vec::new()),
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let mut request = self.client.http.request(Method::GET, format!("{}{}", self.client.base, self.path));
        if let Some(token) = &self.client.token {
            request = request.bearer_auth(token);
        }
        if let Some(id) = &self.last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = self.client.answer(request).await?;
        self.body = Some(Box::pin(response.bytes_stream()));
        Ok(())
    }

    /// The first whole event among the bytes that came; comments are passed over.
    fn take_event(&mut self) -> Option<Happened> {
        loop {
            let end = self.unread.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.unread.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&block);
            let (mut event, mut data) = (String::new(), String::new());
            for line in text.lines() {
                match line.split_once(": ") {
                    Some(("event", value)) => event = value.to_owned(),
                    Some(("data", value)) => data.push_str(value),
                    Some(("id", value)) => self.last_id = Some(value.to_owned()),
                    _ => {}
                }
            }
            if !event.is_empty() {
                return Some(Happened { event, data: serde_json::from_str(&data).unwrap_or(Value::Null) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let client = Client::new("127.0.0.1:1", None).unwrap();
        let mut events = Events::new(client, "/".into());
        let text = b": keep-alive\n\nevent: put\nid: a-7\ndata: {\"id\":\"x\"}\n\nevent: synced\ndata: {}\n\n";
        let mut found = Vec::new();
        for byte in text {
            events.unread.push(*byte);
            found.extend(events.take_event());
        }
        assert_eq!(found.iter().map(|event| event.event.as_str()).collect::<Vec<_>>(), ["put", "synced"]);
        assert_eq!(found[0].data["id"], "x");
        assert_eq!(events.last_id.as_deref(), Some("a-7"));
    }
}
