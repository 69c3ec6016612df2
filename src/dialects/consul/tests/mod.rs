//! The dialect over real HTTP: a real agent in memory, a real listener, a client that knows nothing of either.

mod agent;
mod catalog;
mod elsewhere;
mod event;
mod external;
mod health;
mod kv;
mod round_trip;
mod status;
mod writes;

use std::time::Duration;

use serde_json::Value;

use crate::agent::Agent;
use crate::agent::testing::{agent, joined};
use crate::serve;
use crate::settings::Listen;

/// An agent and its HTTP port.
pub struct Peer {
    pub agent: Agent,
    url: String,
    http: reqwest::Client,
}

/// An answer whose body has come.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn index(&self) -> u64 {
        self.header("x-consul-index").parse().unwrap_or_else(|_| panic!("no index: {self:?}"))
    }

    pub fn json(&self) -> Value {
        assert_eq!((self.status, self.header("content-type")), (200, "application/json"), "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Status and text, as errors are compared.
    pub fn said(&self) -> (u16, &str) {
        (self.status, &self.text)
    }
}

impl Peer {
    /// An agent alone.
    pub async fn start() -> Peer {
        Self::over(agent("n1").await)
    }

    /// Another agent beside this one.
    pub async fn beside(&self, node: &str) -> Peer {
        Self::over(joined(node, &self.agent).await)
    }

    fn over(agent: Agent) -> Peer {
        // Chosen once a process; whoever came first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let bound = serve::bind(&[Listen::Tcp("127.0.0.1:0".parse().unwrap())], 1).unwrap();
        // Its threads end with the agent, or the process.
        let serving = serve::serve(bound, &[], None, crate::settings::Consul::default(), agent.handle()).unwrap();
        let Listen::Tcp(address) = serving.listening[0] else { panic!("it is TCP") };
        Peer { agent, url: format!("http://{address}"), http: reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap() }
    }

    pub async fn ask(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url)).body(body);
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    pub async fn put(&self, path: &str, body: impl ToString) -> Answer {
        self.ask("PUT", path, body.to_string()).await
    }

    /// A write that is done, and answered with nothing.
    pub async fn write(&self, path: &str, body: impl ToString) {
        let answer = self.put(path, body).await;
        assert_eq!(answer.said(), (200, ""), "{path}");
    }
}
