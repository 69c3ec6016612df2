//! TLS between gateways (protocol.md §6): both sides show a certificate that names their datacenter, and no other one is let in.
//!
//! ```text
//!   dials "east" ── TCP ── TLS 1.3 ──► shows east.gateway.tidings, asks for a certificate
//!   shows west.gateway.tidings ──────► hands "west" to the engine, which takes no other's origins on this link
//! ```
//!
//! The name is a DNS name in the certificate's subject alternative names: any authority can make it. It is compared exactly, and a
//! certificate names one datacenter: wildcards name none. What certificates are asked for is a new link; what stands, stays.
//! The frames inside are sealed with the gateways' key as ever: a certificate alone opens nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use x509_parser::extensions::GeneralName;

use super::certificate::{self, End, EndWatch, read, unusable};
use super::handle::Handle;
use crate::model::names::Datacenter;
use crate::settings::{Problem, WanTls};

/// What follows a datacenter's name in its gateways' certificates.
pub const NAME_SUFFIX: &str = ".gateway.tidings";
/// Handshakes that gateways which dial us have under way at once; whoever comes when all are taken is closed unheard, and dials again.
const HANDSHAKES_MAX: usize = 32;
/// Of them, those of one address: nobody who is slow on purpose keeps the others out.
const HANDSHAKES_A_HOST_MAX: usize = 4;
/// A handshake takes two round trips; this is for the slowest of lines and the busiest of peers.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Hosts and reasons that were said in the log.
const WARNED_MAX: usize = 256;

/// The name in the certificates of a datacenter's gateways.
pub fn name_of(datacenter: &Datacenter) -> String {
    format!("{datacenter}{NAME_SUFFIX}")
}

/// The same of a datacenter as people type it.
///
/// # Errors
/// Says what is wrong with the name.
pub fn certificate_name(datacenter: &str) -> Result<String, String> {
    let datacenter = Datacenter::new(datacenter).map_err(|why| why.to_string())?;
    match ServerName::try_from(name_of(&datacenter)) {
        Ok(ServerName::DnsName(name)) => Ok(name.as_ref().to_owned()),
        _ => Err("a datacenter of that name cannot stand in a certificate: DNS wants up to 63 letters, digits, '-' and '_' between dots"
            .to_owned()),
    }
}

/// What the files of `[wan] tls` hold.
pub struct Credentials {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    end: End,
    /// The files as they were, to tell a change.
    bytes: [Vec<u8>; 3],
}

impl Credentials {
    /// Reads the certificate of a gateway of `own`, its key and the authorities of all gateways. An expired one is taken: what is
    /// known of others does not depend on it.
    ///
    /// # Errors
    /// Says which file cannot be used, and why.
    pub fn read(settings: &WanTls, own: &Datacenter) -> Result<Credentials, Problem> {
        let WanTls { ca, cert, key } = settings;
        let bytes = [read("wan.tls.ca", ca)?, read("wan.tls.cert", cert)?, read("wan.tls.key", key)?];
        let roots = Arc::new(certificate::authorities("wan.tls.ca", ca, &bytes[0])?);
        let chain = certificate::chain("wan.tls.cert", cert, &bytes[1])?;
        let private = certificate::private_key("wan.tls.key", key, &bytes[2])?;
        let end = End::of(&chain[0]).map_err(|why| unusable("wan.tls.cert", cert, why))?;
        let make = || format!("`tidings tls cert --gateway {own}` makes one, with the authority of all datacenters.");
        match certified(&chain[0]) {
            Ok(named) if named == *own => {}
            Ok(named) => {
                let why =
                    format!("it is of datacenter {named:?}, and this agent is in {own:?}", named = named.as_str(), own = own.as_str());
                return Err(unusable("wan.tls.cert", cert, why).hint(make()));
            }
            Err(why) => return Err(unusable("wan.tls.cert", cert, why).hint(make())),
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let cannot = |why: rustls::Error| Problem::new(format!("TLS cannot be had: {why}"));
        let mismatch = |why| certificate::mismatch(["wan.tls.cert", "wan.tls.key"], [cert, key], why);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(cannot)?
            .with_client_cert_verifier(verifier.map_err(|why| unusable("wan.tls.ca", ca, why))?)
            .with_single_cert(chain.clone(), private.clone_key())
            .map_err(mismatch)?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(cannot)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private)
            .map_err(mismatch)?;
        // A resumed session shows no certificate: one that ran out meanwhile would get through.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
        Ok(Credentials { server: Arc::new(server), client: Arc::new(client), end, bytes })
    }
}

/// The datacenter that a certificate names.
fn certified(certificate: &CertificateDer<'_>) -> Result<Datacenter, &'static str> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| "it is garbled")?;
    let names = parsed.subject_alternative_name().map_err(|_| "its names are garbled")?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let named: BTreeSet<Datacenter> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Datacenter::new(name.strip_suffix(NAME_SUFFIX)?).ok(),
            _ => None,
        })
        .collect();
    match (named.len(), named.into_iter().next()) {
        (1, Some(datacenter)) => Ok(datacenter),
        (0, _) => Err("it names no datacenter: no DNS name in it is NAME.gateway.tidings"),
        _ => Err("it names several datacenters"),
    }
}

/// The certificates in force and what became of handshakes; cheap to clone.
#[derive(Clone)]
pub struct LinkTls(Arc<Shared>);

struct Shared {
    credentials: ArcSwap<Credentials>,
    end: Gauge<i64, AtomicI64>,
    end_watch: EndWatch,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    /// What of whom was said in the log: once is enough, until he is let in.
    warned: Mutex<BTreeSet<(IpAddr, &'static str)>>,
    /// Handshakes of those who dialled us.
    under_way: Mutex<BTreeMap<IpAddr, usize>>,
}

impl LinkTls {
    pub fn new(credentials: Credentials, registry: &mut Registry) -> LinkTls {
        let (end, refused) = (Gauge::default(), Family::default());
        end.set(credentials.end.0);
        registry.register_with_unit(
            "tidings_wan_certificate_end",
            "When the certificate of this gateway ends, in Unix time",
            Unit::Seconds,
            end.clone(),
        );
        registry.register("tidings_wan_links_refused", "Links with other gateways that TLS refused, by reason", refused.clone());
        let credentials = ArcSwap::from_pointee(credentials);
        let end_watch = EndWatch::new("this gateway's certificate");
        LinkTls(Arc::new(Shared { credentials, end, end_watch, refused, warned: Mutex::default(), under_way: Mutex::default() }))
    }

    /// Puts other certificates in force, for links that are opened from now on. Says whether they differ.
    pub fn exchange(&self, credentials: Credentials) -> bool {
        let has_changed = self.0.credentials.load().bytes != credentials.bytes;
        if has_changed {
            self.0.end.set(credentials.end.0);
            self.0.end_watch.look(credentials.end);
            self.0.credentials.store(Arc::new(credentials));
        }
        has_changed
    }

    /// Warns when the certificate is near its end or past it.
    pub async fn watch_end(self, handle: Handle) {
        self.0.end_watch.run(handle, || self.0.credentials.load().end).await;
    }

    /// When the certificate in force ends; Unix seconds.
    pub fn end_s(&self) -> i64 {
        self.0.end.get()
    }

    /// A place among the handshakes under way; none: too many are.
    pub fn place(&self, peer: SocketAddr) -> Option<Place> {
        let mut under_way = lock(&self.0.under_way);
        let has_room = under_way.values().sum::<usize>() < HANDSHAKES_MAX;
        let of_host = under_way.get(&peer.ip()).copied().unwrap_or_default();
        if !has_room || of_host >= HANDSHAKES_A_HOST_MAX {
            drop(under_way);
            self.refuse(peer, None, "busy", &"too many handshakes are under way");
            return None;
        }
        under_way.insert(peer.ip(), of_host + 1);
        Some(Place { tls: self.clone(), host: peer.ip() })
    }

    /// The handshake of a gateway that dialled us. Says which datacenter it is of; what is refused is counted and said here.
    pub async fn accept(&self, connection: TcpStream, peer: SocketAddr) -> Option<(server::TlsStream<TcpStream>, Datacenter)> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.0.credentials.load().server));
        let stream = self.shake(peer, None, acceptor.accept(connection)).await?;
        let datacenter = self.named(peer, None, stream.get_ref().1.peer_certificates())?;
        self.let_in(peer);
        Some((stream, datacenter))
    }

    /// The handshake with a gateway that we dialled, which must be of `datacenter`.
    pub async fn connect(&self, connection: TcpStream, peer: SocketAddr, datacenter: &Datacenter) -> Option<client::TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::clone(&self.0.credentials.load().client));
        let Ok(name) = ServerName::try_from(name_of(datacenter)) else {
            self.refuse(peer, Some(datacenter), "certificate_name", &"a datacenter of that name cannot stand in a certificate");
            return None;
        };
        let stream = self.shake(peer, Some(datacenter), connector.connect(name, connection)).await?;
        // What was verified may be a wildcard, or spelt in other cases.
        let named = self.named(peer, Some(datacenter), stream.get_ref().1.peer_certificates())?;
        if named != *datacenter {
            self.refuse(peer, Some(datacenter), "certificate_name", &format!("the certificate is of {named}"));
            return None;
        }
        // The other side may refuse our certificate yet: its word on that comes later, by `broken`.
        Some(stream)
    }

    /// A link broke: where the other side refused our certificate, that is counted and said.
    pub fn broken(&self, peer: SocketAddr, why: &io::Error) {
        if let Some(error @ rustls::Error::AlertReceived(_)) = tls_error(why) {
            self.refuse(peer, None, "refused_by_peer", error);
        }
    }

    async fn shake<S>(
        &self,
        peer: SocketAddr,
        datacenter: Option<&Datacenter>,
        handshake: impl Future<Output = io::Result<S>>,
    ) -> Option<S> {
        match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(why)) => self.refuse(peer, datacenter, reason(&why), &why),
            Err(_) => self.refuse(peer, datacenter, "timeout", &"the handshake was not done in time"),
        }
        None
    }

    fn named(&self, peer: SocketAddr, datacenter: Option<&Datacenter>, shown: Option<&[CertificateDer<'_>]>) -> Option<Datacenter> {
        let shown = shown.and_then(<[_]>::first).ok_or("it shows no certificate");
        shown.and_then(certified).map_err(|why| self.refuse(peer, datacenter, "certificate_name", &why)).ok()
    }

    fn let_in(&self, peer: SocketAddr) {
        lock(&self.0.warned).retain(|(host, _)| *host != peer.ip());
    }

    fn refuse(&self, peer: SocketAddr, datacenter: Option<&Datacenter>, reason: &'static str, why: &dyn std::fmt::Display) {
        self.0.refused.get_or_create(&[("reason", reason)]).inc();
        let mut warned = lock(&self.0.warned);
        if warned.len() < WARNED_MAX && warned.insert((peer.ip(), reason)) {
            let datacenter = datacenter.map(Datacenter::as_str);
            tracing::warn!(%peer, datacenter, reason, %why, "a link with another gateway is refused");
        }
    }
}

/// A place among the handshakes under way, as long as it is held.
pub struct Place {
    tls: LinkTls,
    host: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = lock(&self.tls.0.under_way);
        let left = under_way.get(&self.host).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            under_way.remove(&self.host)
        } else {
            under_way.insert(self.host, left)
        };
    }
}

fn tls_error(why: &io::Error) -> Option<&rustls::Error> {
    why.get_ref()?.downcast_ref()
}

/// One word for why a handshake failed.
fn reason(why: &io::Error) -> &'static str {
    use rustls::Error;
    match tls_error(why) {
        Some(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => "certificate_expired",
        Some(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::UnhandledCriticalExtension,
        )) => "certificate_authority",
        Some(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
            "certificate_name"
        }
        Some(Error::InvalidCertificate(_)) => "certificate",
        Some(Error::NoCertificatesPresented) => "certificate_missing",
        Some(Error::AlertReceived(_)) => "refused_by_peer",
        Some(_) => "not_tls",
        None => "broken",
    }
}

/// What a panicking thread left behind is still whole: every change under these locks is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub mod tests;
