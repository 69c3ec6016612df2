//! TLS of the HTTP listeners: certificate, key and, for mutual TLS, the authority of the clients; read again while the agent runs.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::agent::handle::Handle;
use crate::agent::handle::wall_ms;
use crate::settings::{self, Problem};

/// From here on each look at the certificate's end is a warning.
const WARN_BEFORE: Duration = Duration::from_secs(21 * 86_400);
/// How often the end of the certificate is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(12 * 3_600);
/// HTTP/2 where the client speaks it.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What listeners show and ask for; cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<Loaded>>);

struct Loaded {
    config: Arc<ServerConfig>,
    /// When the certificate ends; Unix seconds.
    ends_at_s: i64,
    /// The files as they were, to tell a change.
    bytes: Vec<Vec<u8>>,
}

impl Tls {
    /// # Errors
    /// Says which file cannot be used, and why.
    pub fn load(settings: &settings::Tls) -> Result<Tls, Problem> {
        Loaded::read(settings).map(|loaded| Tls(Arc::new(ArcSwap::from_pointee(loaded))))
    }

    /// Reads the files again; connections that come from now on see them. Says whether they had changed.
    ///
    /// # Errors
    /// Says which file cannot be used; then all stays as it is.
    pub fn reload(&self, settings: &settings::Tls) -> Result<bool, Problem> {
        let loaded = Loaded::read(settings)?;
        let has_changed = self.0.load().bytes != loaded.bytes;
        if has_changed {
            loaded.warn_of_end();
            self.0.store(Arc::new(loaded));
        }
        Ok(has_changed)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.load().config))
    }

    /// Warns, again and again, when the certificate is near its end or past it.
    pub(super) async fn watch_end(self, handle: Handle) {
        loop {
            self.0.load().warn_of_end();
            tokio::select! {
                () = handle.stopping() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

impl Loaded {
    fn read(settings: &settings::Tls) -> Result<Loaded, Problem> {
        let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
            let missing = if settings.cert.is_none() { "tls.cert" } else { "tls.key" };
            return Err(Problem::new(format!("a listener is to speak TLS, and {missing} is not set"))
                .hint("`tidings tls ca` and `tidings tls cert --host NAME` make what is needed, for those who have none."));
        };
        let (cert_pem, key_pem) = (read("tls.cert", cert)?, read("tls.key", key)?);
        let chain = certificates("tls.cert", cert, &cert_pem)?;
        let ends_at_s = end_of(&chain[0]).map_err(|why| unusable("tls.cert", cert, why))?;
        let private = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| unusable("tls.key", key, "it holds no private key in PEM"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|why| Problem::new(format!("TLS cannot be had: {why}")))?;
        let mut bytes = vec![cert_pem, key_pem];
        let builder = match &settings.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let pem = read("tls.client_ca", path)?;
                let mut roots = RootCertStore::empty();
                for authority in certificates("tls.client_ca", path, &pem)? {
                    roots.add(authority).map_err(|why| unusable("tls.client_ca", path, why))?;
                }
                bytes.push(pem);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|why| unusable("tls.client_ca", path, why))?)
            }
        };
        let mut config = builder.with_single_cert(chain, private).map_err(|why| match why {
            rustls::Error::InconsistentKeys(_) => {
                Problem::new(format!("tls.key ({}) is not the key of the certificate in tls.cert ({})", key.display(), cert.display()))
            }
            other => unusable("tls.key", key, other),
        })?;
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(Loaded { config: Arc::new(config), ends_at_s, bytes })
    }

    fn warn_of_end(&self) {
        let left_s = self.ends_at_s.saturating_sub(i64::try_from(wall_ms() / 1_000).unwrap_or(i64::MAX));
        let days = left_s / 86_400;
        if left_s <= 0 {
            tracing::warn!("the TLS certificate has expired: clients refuse it; put a new one in its place and `tidings reload`");
        } else if left_s.unsigned_abs() < WARN_BEFORE.as_secs() {
            tracing::warn!(days, "the TLS certificate expires soon; put a new one in its place and `tidings reload`");
        }
    }
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|why| Problem::new(format!("{setting} names the file {}, which cannot be read: {why}", path.display())))
}

fn unusable(setting: &str, path: &Path, why: impl Display) -> Problem {
    Problem::new(format!("{setting} names the file {}, which cannot be used: {why}", path.display()))
}

/// At least one.
fn certificates(setting: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| unusable(setting, path, "its PEM is garbled"))?;
    if found.is_empty() { Err(unusable(setting, path, "it holds no certificate in PEM")) } else { Ok(found) }
}

fn end_of(certificate: &CertificateDer<'_>) -> Result<i64, &'static str> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| "its first certificate is garbled")?;
    Ok(parsed.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn write(&self, name: &str, text: &str) -> Option<PathBuf> {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        }
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn files_that_are_missing_garbled_or_of_different_pairs_are_named() {
        let files = Files(tempfile::tempdir().unwrap());
        let ((cert, key), (_, other_key)) = (pair(), pair());
        let refusal = |cert: Option<PathBuf>, key: Option<PathBuf>, client_ca: Option<PathBuf>| {
            let refusal = Tls::load(&settings::Tls { cert, key, client_ca }).err().expect("it is refused").what;
            assert!(!refusal.contains('\n') && !refusal.contains("BEGIN"), "one line, no secret: {refusal}");
            refusal
        };
        let (cert_file, key_file) = (files.write("cert.pem", &cert), files.write("key.pem", &key));
        assert!(Tls::load(&settings::Tls { cert: cert_file.clone(), key: key_file.clone(), client_ca: cert_file.clone() }).is_ok());
        assert!(refusal(cert_file.clone(), None, None).contains("tls.key is not set"));
        assert!(refusal(Some("/nonexistent/cert".into()), key_file.clone(), None).contains("/nonexistent/cert"));
        assert!(refusal(key_file.clone(), key_file.clone(), None).contains("no certificate"));
        assert!(refusal(cert_file.clone(), cert_file.clone(), None).contains("no private key"));
        assert!(refusal(cert_file.clone(), files.write("other.pem", &other_key), None).contains("is not the key of the certificate"));
        assert!(refusal(files.write("cut.pem", &cert[..cert.len() / 2]), key_file.clone(), None).contains("tls.cert"));
        assert!(refusal(cert_file, key_file, files.write("ca.pem", "hello")).contains("tls.client_ca"));
    }

    #[test]
    fn files_are_read_again_and_a_bad_one_changes_nothing() {
        let files = Files(tempfile::tempdir().unwrap());
        let (cert, key) = pair();
        let settings = settings::Tls { cert: files.write("cert.pem", &cert), key: files.write("key.pem", &key), client_ca: None };
        let tls = Tls::load(&settings).unwrap();
        assert_eq!(tls.reload(&settings), Ok(false));
        let (cert, key) = pair();
        files.write("cert.pem", &cert);
        assert!(tls.reload(&settings).is_err(), "the key is still the old one's");
        let before = Arc::clone(&tls.0.load().config);
        files.write("key.pem", &key);
        assert_eq!(tls.reload(&settings), Ok(true));
        assert!(!Arc::ptr_eq(&before, &tls.0.load().config));
    }
}
