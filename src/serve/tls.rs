//! TLS of the HTTP listeners: certificate, key and, for mutual TLS, the authority of the clients; read again while the agent runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use crate::agent::certificate::{self, End, EndWatch, read, unusable};
use crate::agent::handle::Handle;
use crate::settings::{self, Problem};

/// HTTP/2 where the client speaks it.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What listeners show and ask for; none: no listener speaks TLS.
///
/// # Errors
/// As [`Tls::load`].
pub fn load(settings: &settings::Settings) -> Result<Option<Tls>, Problem> {
    let speaks_tls = settings.http.listen.iter().any(|at| matches!(at, settings::Listen::Tls(_)));
    speaks_tls.then(|| Tls::load(&settings.tls)).transpose()
}

/// What listeners show and ask for; cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    loaded: ArcSwap<Loaded>,
    end: EndWatch,
}

struct Loaded {
    config: Arc<ServerConfig>,
    end: End,
    /// The files as they were, to tell a change.
    bytes: Vec<Vec<u8>>,
}

impl Tls {
    /// # Errors
    /// Says which file cannot be used, and why.
    pub fn load(settings: &settings::Tls) -> Result<Tls, Problem> {
        let loaded = ArcSwap::from_pointee(Loaded::read(settings)?);
        Ok(Tls(Arc::new(Shared { loaded, end: EndWatch::new("the TLS certificate") })))
    }

    /// Reads the files again; connections that come from now on see them. Says whether they had changed.
    ///
    /// # Errors
    /// Says which file cannot be used; then all stays as it is.
    pub fn reload(&self, settings: &settings::Tls) -> Result<bool, Problem> {
        let loaded = Loaded::read(settings)?;
        let has_changed = self.0.loaded.load().bytes != loaded.bytes;
        if has_changed {
            self.0.end.look(loaded.end);
            self.0.loaded.store(Arc::new(loaded));
        }
        Ok(has_changed)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.loaded.load().config))
    }

    /// Warns when the certificate is near its end or past it.
    pub(super) async fn watch_end(self, handle: Handle) {
        self.0.end.run(handle, || self.0.loaded.load().end).await;
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
        let chain = certificate::chain("tls.cert", cert, &cert_pem)?;
        let end = End::of(&chain[0]).map_err(|why| unusable("tls.cert", cert, why))?;
        let private = certificate::private_key("tls.key", key, &key_pem)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|why| Problem::new(format!("TLS cannot be had: {why}")))?;
        let mut bytes = vec![cert_pem, key_pem];
        let builder = match &settings.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let pem = read("tls.client_ca", path)?;
                let roots = certificate::authorities("tls.client_ca", path, &pem)?;
                bytes.push(pem);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|why| unusable("tls.client_ca", path, why))?)
            }
        };
        let mut config =
            builder.with_single_cert(chain, private).map_err(|why| certificate::mismatch(["tls.cert", "tls.key"], [cert, key], why))?;
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(Loaded { config: Arc::new(config), end, bytes })
    }
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
        let before = Arc::clone(&tls.0.loaded.load().config);
        files.write("key.pem", &key);
        assert_eq!(tls.reload(&settings), Ok(true));
        assert!(!Arc::ptr_eq(&before, &tls.0.loaded.load().config));
    }
}
