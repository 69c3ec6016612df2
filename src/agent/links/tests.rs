//! Handshakes over loopback: who is let in, who is not, and what is said of it.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::metrics;
use super::*;

/// An authority with a directory for what it makes.
pub struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn generate() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { dir, issuer: Issuer::new(params, key) }
    }

    /// The files of a certificate with these names.
    fn files(&self, names: &[&str], until_year: i32) -> WanTls {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until_year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let put = |name: &str, text: &str| -> PathBuf {
            let path = self.dir.path().join(format!("{}{until_year}-{name}", names.join("+").replace('*', "any")));
            std::fs::write(&path, text).unwrap();
            path
        };
        WanTls { ca: self.dir.path().join("ca.pem"), cert: put("cert.pem", &made.pem()), key: put("key.pem", &key.serialize_pem()) }
    }

    fn credentials(&self, datacenter: &str, until_year: i32) -> Credentials {
        let own = named(datacenter);
        Credentials::read(&self.files(&[&name_of(&own)], until_year), &own).unwrap()
    }

    /// A gateway of that datacenter.
    pub fn gateway(&self, datacenter: &str) -> LinkTls {
        LinkTls::new(self.credentials(datacenter, 2100), &mut Registry::default())
    }
}

pub fn named(datacenter: &str) -> Datacenter {
    Datacenter::new(datacenter).unwrap()
}

/// What came of one dial: the datacenter as the acceptor sees it, whether the dialler holds a stream, and the reasons each counted.
struct Met {
    accepted: Option<Datacenter>,
    connected: bool,
    said: [Vec<&'static str>; 2],
}

async fn meet(dialler: &LinkTls, towards: &str, acceptor: &LinkTls) -> Met {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let towards = named(towards);
    let dial = async {
        let mut stream = dialler.connect(TcpStream::connect(address).await.unwrap(), address, &towards).await?;
        // The other side's word on our certificate comes with the first read.
        match stream.read(&mut [0; 1]).await {
            Ok(1) => Some(stream),
            Ok(_) => None,
            Err(why) => {
                dialler.broken(address, &why);
                None
            }
        }
    };
    let answer = async {
        let (connection, peer) = listener.accept().await.unwrap();
        let (mut stream, datacenter) = acceptor.accept(connection, peer).await?;
        // A dialler that refuses us is gone by now.
        let _ = stream.write_all(&[1]).await;
        let _ = stream.flush().await;
        Some((stream, datacenter))
    };
    let (dialled, answered) = tokio::join!(dial, answer);
    let said = [dialler, acceptor].map(|tls| lock(&tls.0.warned).iter().map(|(_, reason)| *reason).collect());
    Met { accepted: answered.map(|(_, datacenter)| datacenter), connected: dialled.is_some(), said }
}

#[tokio::test]
async fn gateways_of_one_authority_know_each_others_datacenter() {
    let authority = Authority::generate();
    let (east, west) = (authority.gateway("east"), authority.gateway("west"));
    let met = meet(&west, "east", &east).await;
    assert!(met.connected && met.said.iter().all(Vec::is_empty), "{:?}", met.said);
    assert_eq!(met.accepted, Some(named("west")));
}

#[tokio::test]
async fn a_gateway_of_another_datacenter_or_authority_is_refused_by_name() {
    let (authority, other) = (Authority::generate(), Authority::generate());
    let (east, west, stranger) = (authority.gateway("east"), authority.gateway("west"), other.gateway("west"));
    let met = meet(&west, "north", &east).await;
    assert!(!met.connected);
    assert_eq!(met.said[0], ["certificate_name"]);
    let met = meet(&stranger, "east", &east).await;
    assert!(!met.connected && met.accepted.is_none());
    assert_eq!(met.said[0], ["certificate_authority"], "who dials sees the other's certificate first");
    // One that would believe anybody is not believed.
    let mut gullible = other.credentials("west", 2100);
    let mut roots = rustls::RootCertStore::empty();
    let ca = std::fs::read(authority.dir.path().join("ca.pem")).unwrap();
    roots.add(certificate::chain("", "".as_ref(), &ca).unwrap().remove(0)).unwrap();
    let mut client = ClientConfig::clone(&gullible.client);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    client.dangerous().set_certificate_verifier(verifier);
    gullible.client = Arc::new(client);
    let gullible = LinkTls::new(gullible, &mut Registry::default());
    let met = meet(&gullible, "east", &authority.gateway("east")).await;
    assert!(!met.connected && met.accepted.is_none());
    assert_eq!((met.said[0].as_slice(), met.said[1].as_slice()), (["refused_by_peer"].as_slice(), ["certificate_authority"].as_slice()));
}

#[tokio::test]
async fn an_expired_certificate_opens_no_link_and_a_new_one_does() {
    let authority = Authority::generate();
    let mut registry = Registry::default();
    let east = authority.gateway("east");
    let west = LinkTls::new(authority.credentials("west", 2021), &mut registry);
    for _ in 0..3 {
        let met = meet(&west, "east", &east).await;
        assert!(!met.connected && met.accepted.is_none());
        assert_eq!((met.said[0].as_slice(), met.said[1].as_slice()), (["refused_by_peer"].as_slice(), ["certificate_expired"].as_slice()));
    }
    let met = meet(&east, "west", &west).await;
    assert!(!met.connected);
    let text = metrics::encode(&registry, Vec::new());
    assert!(text.contains("tidings_wan_links_refused_total{reason=\"refused_by_peer\"} 4"), "each is counted, said once: {text}");
    assert!(text.contains("tidings_wan_certificate_end_seconds 1609459200"), "{text}");
    assert!(west.exchange(authority.credentials("west", 2100)));
    let met = meet(&west, "east", &east).await;
    assert_eq!((met.connected, met.accepted), (true, Some(named("west"))));
    assert!(met.said[1].is_empty(), "who was let in is said again when he is refused again");
}

#[tokio::test]
async fn who_speaks_no_tls_shows_no_certificate_or_nothing_at_all_is_refused() {
    let authority = Authority::generate();
    let east = authority.gateway("east");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (connection, peer) = listener.accept().await.unwrap();
    assert!(east.accept(connection, peer).await.is_none());

    let roots = certificate::authorities("", "".as_ref(), &std::fs::read(authority.dir.path().join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let nobody = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let nobody = TlsConnector::from(Arc::new(nobody.with_root_certificates(roots).with_no_client_auth()));
    let connection = TcpStream::connect(address).await.unwrap();
    let (came, peer) = listener.accept().await.unwrap();
    let name = ServerName::try_from("east.gateway.tidings").unwrap();
    let (_client, accepted) = tokio::join!(nobody.connect(name, connection), east.accept(came, peer));
    assert!(accepted.is_none());
    let said: Vec<&str> = lock(&east.0.warned).iter().map(|(_, reason)| *reason).collect();
    assert_eq!(said, ["certificate_missing", "not_tls"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    let east = Authority::generate().gateway("east");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (connection, peer) = listener.accept().await.unwrap();
    assert!(east.accept(connection, peer).await.is_none());
    assert!(lock(&east.0.warned).contains(&(peer.ip(), "timeout")));
}

#[test]
fn one_host_takes_a_few_places_and_all_together_the_rest() {
    let east = Authority::generate().gateway("east");
    let host = |n: u8| SocketAddr::from(([192, 0, 2, n], 7));
    let mut places: Vec<Place> = (0..HANDSHAKES_A_HOST_MAX).map(|_| east.place(host(1)).unwrap()).collect();
    assert!(east.place(host(1)).is_none());
    places.extend((0..HANDSHAKES_MAX - HANDSHAKES_A_HOST_MAX).map(|n| east.place(host(10 + n as u8)).unwrap()));
    assert!(east.place(host(2)).is_none());
    places.pop();
    assert!(east.place(host(2)).is_some());
    drop(places);
    assert!(lock(&east.0.under_way).is_empty());
}

#[test]
fn a_certificate_names_one_datacenter_and_it_is_the_own_one() {
    let authority = Authority::generate();
    let refusal =
        |names: &[&str], own: &str| Credentials::read(&authority.files(names, 2100), &named(own)).err().map(|why| why.to_string());
    assert_eq!(refusal(&["east.gateway.tidings", "g1.example", "10.0.0.1"], "east"), None);
    assert_eq!(refusal(&["eu.east-1.gateway.tidings"], "eu.east-1"), None);
    let other = refusal(&["east.gateway.tidings"], "west").unwrap();
    assert!(other.contains("it is of datacenter \"east\"") && other.contains("tidings tls cert --gateway west"), "{other}");
    for names in [&["g1.example"][..], &["*.gateway.tidings"], &["gateway.tidings"], &["east.gateway.tidings.example"]] {
        assert!(refusal(names, "east").unwrap().contains("names no datacenter"), "{names:?}");
    }
    assert!(refusal(&["East.gateway.tidings"], "east").is_some(), "names keep their case");
    assert!(refusal(&["east.gateway.tidings", "west.gateway.tidings"], "east").unwrap().contains("several"));
    let files = authority.files(&["east.gateway.tidings"], 2100);
    let swapped = WanTls { key: authority.files(&["east.gateway.tidings"], 2099).key, ..files };
    let refusal = Credentials::read(&swapped, &named("east")).err().unwrap().to_string();
    assert!(refusal.contains("is not the key of the certificate"), "{refusal}");
}

#[test]
fn a_datacenter_that_dns_cannot_name_gets_no_certificate() {
    assert_eq!(certificate_name("east").as_deref(), Ok("east.gateway.tidings"));
    for name in ["", "a b", "east.", &"x".repeat(64)] {
        assert!(certificate_name(name).is_err(), "{name:?}");
    }
}
