//! The Rust client of the native API (api.md §1): typed where programs need types, JSON where people only read.
//!
//! One [`Client`] speaks to one agent, usually the one on its own host. It keeps connections open and may be cloned freely.

mod events;

pub use events::{Events, Happened};

use crate::schema::{List, Pick, Problem, Registration, Write};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// Where an agent's HTTP listens unless it is told otherwise.
pub const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8500";
/// How long to wait for a connection. Agents are near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at the end.
    base: String,
    /// As it was given, for errors.
    address: String,
    token: Option<String>,
}

/// Whom a client believes to be an agent, and how it shows who it is itself: PEM, as it stands in files.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Authorities of agents' certificates; none: those of the system.
    pub ca: Option<Vec<u8>>,
    /// The client's own certificate and its private key, one after the other, for agents that ask for one.
    pub identity: Option<Vec<u8>>,
}

/// Why a request has no result.
#[derive(Debug)]
pub enum Error {
    /// The address is none.
    Address { address: String, why: String },
    /// An authority or a certificate cannot be used.
    Trust { why: String },
    /// No agent answers there.
    NotReached { address: String, why: String },
    /// The agent said no.
    Refused(Box<Problem>),
    /// Something answered that speaks otherwise.
    Unreadable { address: String, why: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Address { address, why } => write!(f, "{address:?} is no address of an agent: {why}"),
            Error::Trust { why } => f.write_str(why),
            Error::NotReached { address, why } => write!(f, "no agent answers at {address}: {why}"),
            Error::Unreadable { address, why } => write!(f, "what answers at {address} is no tidings agent: {why}"),
            Error::Refused(problem) => {
                f.write_str(&problem.detail)?;
                if let Some(pointer) = &problem.pointer {
                    write!(f, " (at {pointer})")?;
                }
                match &problem.allowed {
                    Some(allowed) => write!(f, "; allowed: {allowed}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for Error {}

impl Trust {
    fn apply(&self, mut builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, Error> {
        let refuse = |what: &str| Error::Trust { why: what.to_owned() };
        if let Some(pem) = &self.ca {
            let found = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| refuse("the authority's PEM is garbled"))?;
            if found.is_empty() {
                return Err(refuse("the authority's file holds no certificate in PEM"));
            }
            builder = builder.tls_certs_only(found);
        }
        if let Some(pem) = &self.identity {
            let why = "the client's certificate cannot be used: a certificate and its private key in PEM are needed";
            builder = builder.identity(reqwest::Identity::from_pem(pem).map_err(|_| refuse(why))?);
        }
        Ok(builder)
    }
}

impl Client {
    /// `address` is `http://host:port`, `https://host:port`, `host:port` or `unix:/path/of/socket`.
    ///
    /// # Errors
    /// The address cannot be one.
    pub fn new(address: &str, token: Option<String>) -> Result<Self, Error> {
        Self::with_trust(address, token, &Trust::default())
    }

    /// The same for `https://` addresses of agents whose certificates come from an authority of one's own, or that ask for one.
    ///
    /// # Errors
    /// The address cannot be one, or what is to be trusted is not PEM.
    pub fn with_trust(address: &str, token: Option<String>, trust: &Trust) -> Result<Self, Error> {
        let refuse = |why: String| Error::Address { address: address.to_owned(), why };
        // TLS of this process uses ring's cipher suites; who chose others before keeps them.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder =
            reqwest::Client::builder().user_agent(concat!("tidings/", env!("CARGO_PKG_VERSION"))).connect_timeout(CONNECT_TIMEOUT);
        let builder = trust.apply(builder)?;
        let (builder, base) = match address.strip_prefix("unix:") {
            Some("") => return Err(refuse("a path has to follow unix:".into())),
            Some(path) => (builder.unix_socket(path), "http://localhost".to_owned()),
            None if address.contains("://") => (builder.no_proxy(), address.trim_end_matches('/').to_owned()),
            None => (builder.no_proxy(), format!("http://{address}")),
        };
        reqwest::Url::parse(&base).map_err(|why| refuse(why.to_string()))?;
        let http = builder.build().map_err(|why| refuse(causes(&why)))?;
        Ok(Self { http, base, address: address.to_owned(), token })
    }

    /// As it was given to [`Client::new`].
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Registers or replaces an instance. Idempotent: an identical registration is a sign of life.
    ///
    /// # Errors
    /// See [`Error`]; likewise below.
    pub async fn register(&self, service: &str, id: &str, registration: &Registration) -> Result<Write, Error> {
        self.call(Method::PUT, &instance_path(service, id), Some(registration)).await
    }

    pub async fn deregister(&self, service: &str, id: &str) -> Result<Write, Error> {
        self.call(Method::DELETE, &instance_path(service, id), None::<&()>).await
    }

    /// A sign of life for an instance with a ttl.
    pub async fn heartbeat(&self, service: &str, id: &str) -> Result<Write, Error> {
        self.call(Method::PUT, &format!("{}/heartbeat", instance_path(service, id)), None::<&()>).await
    }

    /// The available instances of a service; none is an empty list.
    pub async fn lookup(&self, service: &str) -> Result<List<'static>, Error> {
        self.call(Method::GET, &format!("/api/v1/services/{}", segment(service)), None::<&()>).await
    }

    /// One instance to call, by the agent's choice; see the API for strategies.
    pub async fn pick(&self, service: &str, strategy: &str) -> Result<Pick<'static>, Error> {
        let query = query(&[("strategy", strategy)]);
        self.call(Method::GET, &format!("/api/v1/services/{}/pick{query}", segment(service)), None::<&()>).await
    }

    /// Anything of the API, as it is.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Any request with a JSON body or none. An answer without a body is JSON's null.
    pub async fn call<B: Serialize + ?Sized, T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&B>) -> Result<T, Error> {
        let response = self.send(method, path, body).await?;
        let bytes = response.bytes().await.map_err(|why| self.not_reached(&why))?;
        let bytes = if bytes.is_empty() { b"null".as_slice() } else { &bytes };
        serde_json::from_slice(bytes).map_err(|why| self.unreadable(why))
    }

    /// Any request with a body as it is: the status of the answer, whatever it says, and its bytes.
    pub async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Vec<u8>), Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|why| self.not_reached(&why))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|why| self.not_reached(&why))?;
        Ok((status, bytes.to_vec()))
    }

    /// Changes as they happen, from a snapshot on; `query` names services and filters as the API has them.
    pub fn events(&self, query: &str) -> Events {
        Events::new(self.clone(), format!("/api/v1/watch{query}"))
    }

    /// Sends, and turns what is no success into its error.
    async fn send<B: Serialize + ?Sized>(&self, method: Method, path: &str, body: Option<&B>) -> Result<reqwest::Response, Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(request).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Error> {
        let response = request.send().await.map_err(|why| self.not_reached(&why))?;
        if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.bytes().await.map_err(|why| self.not_reached(&why))?;
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(Error::Refused(Box::new(problem))),
            Err(_) => Err(self.unreadable(format!("it answered {status}"))),
        }
    }

    fn not_reached(&self, why: &reqwest::Error) -> Error {
        Error::NotReached { address: self.address.clone(), why: causes(why) }
    }

    fn unreadable(&self, why: impl fmt::Display) -> Error {
        Error::Unreadable { address: self.address.clone(), why: why.to_string() }
    }
}

/// The path of an instance.
pub fn instance_path(service: &str, id: &str) -> String {
    format!("/api/v1/services/{}/instances/{}", segment(service), segment(id))
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A query, question mark and all; empty where there are no pairs.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// The last cause says what went wrong; the outer ones only where.
fn causes(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_segment_whatever_they_hold() {
        assert_eq!(segment("group@@a/b c%"), "group%40%40a%2Fb%20c%25");
        assert_eq!(instance_path("web", "10.0.0.1:80"), "/api/v1/services/web/instances/10.0.0.1%3A80");
        assert_eq!(query(&[("tag", "a&b"), ("health", "any")]), "?tag=a%26b&health=any");
        assert_eq!(query(&[]), "");
    }

    #[test]
    fn an_address_may_be_bare_a_url_or_a_socket_path() {
        for address in ["127.0.0.1:8500", "http://n1:8500/", "unix:/run/tidings.sock"] {
            assert!(Client::new(address, None).is_ok(), "{address}");
        }
        assert!(matches!(Client::new("unix:", None), Err(Error::Address { .. })));
        assert!(matches!(Client::new("http://[", None), Err(Error::Address { .. })));
    }
}
