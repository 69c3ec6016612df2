//! Certificates in files: read, matched with what they are for, and how long they last.
//!
//! Who shows them to whom is the listeners' and the links' business; here is what both need.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::handle::{Handle, wall_ms};
use crate::settings::Problem;

/// How often the end of a certificate is looked at. What is said of it is said once a stage.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
const DAY_S: i64 = 86_400;

/// A file that a setting names.
///
/// # Errors
/// It cannot be read.
pub fn read(setting: &str, path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|why| Problem::new(format!("{setting} names the file {}, which cannot be read: {why}", path.display())))
}

pub fn unusable(setting: &str, path: &Path, why: impl Display) -> Problem {
    Problem::new(format!("{setting} names the file {}, which cannot be used: {why}", path.display()))
}

/// The certificates in a file's bytes: at least one.
///
/// # Errors
/// There is none, or its PEM is garbled.
pub fn chain(setting: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| unusable(setting, path, "its PEM is garbled"))?;
    if found.is_empty() { Err(unusable(setting, path, "it holds no certificate in PEM")) } else { Ok(found) }
}

/// The authorities in a file's bytes.
///
/// # Errors
/// As [`chain`]; or one of them cannot be an authority.
pub fn authorities(setting: &str, path: &Path, pem: &[u8]) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for authority in chain(setting, path, pem)? {
        roots.add(authority).map_err(|why| unusable(setting, path, why))?;
    }
    Ok(roots)
}

/// The private key in a file's bytes.
///
/// # Errors
/// There is none.
pub fn private_key(setting: &str, path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable(setting, path, "it holds no private key in PEM"))
}

/// Says in a person's words why a certificate and a key do not go together.
pub fn mismatch([cert_setting, key_setting]: [&str; 2], [cert, key]: [&Path; 2], why: rustls::Error) -> Problem {
    match why {
        rustls::Error::InconsistentKeys(_) => Problem::new(format!(
            "{key_setting} ({}) is not the key of the certificate in {cert_setting} ({})",
            key.display(),
            cert.display()
        )),
        other => unusable(key_setting, key, other),
    }
}

/// When a certificate ends; Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End(pub i64);

/// How near the end of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Far,
    /// At most so many days are left.
    Days(u8),
    Past,
}

impl End {
    /// # Errors
    /// Says that it is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<End, &'static str> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| "its first certificate is garbled")?;
        Ok(End(parsed.validity().not_after.timestamp()))
    }

    fn left_s(self, now_s: i64) -> i64 {
        self.0.saturating_sub(now_s)
    }

    fn stage(self, now_s: i64) -> Stage {
        match self.left_s(now_s) {
            ..=0 => Stage::Past,
            left => [1, 7, 30].into_iter().find(|days| left <= i64::from(*days) * DAY_S).map_or(Stage::Far, Stage::Days),
        }
    }
}

/// Warns 30, 7 and 1 days before a certificate's end and when it is there, once each.
pub struct EndWatch {
    what: &'static str,
    said: Mutex<Option<(End, Stage)>>,
}

impl EndWatch {
    pub fn new(what: &'static str) -> EndWatch {
        EndWatch { what, said: Mutex::new(None) }
    }

    /// Looks at what is in force now; called again at each exchange.
    pub fn look(&self, end: End) {
        let now_s = i64::try_from(wall_ms() / 1_000).unwrap_or(i64::MAX);
        let stage = end.stage(now_s);
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).replace((end, stage)) == Some((end, stage)) {
            return;
        }
        let (what, days) = (self.what, end.left_s(now_s) / DAY_S);
        match stage {
            Stage::Far => {}
            Stage::Days(_) => tracing::warn!(days, "{what} expires soon: put a new one in its place and `tidings reload`"),
            Stage::Past => tracing::warn!("{what} has expired: others refuse it; put a new one in its place and `tidings reload`"),
        }
    }

    /// Looks again and again at what `end` says, until the agent stops.
    pub async fn run(&self, handle: Handle, end: impl Fn() -> End + Send) {
        loop {
            self.look(end());
            tokio::select! {
                () = handle.stopping() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_comes_nearer_by_stages() {
        let end = End(100 * DAY_S);
        let stage = |days_before: i64| end.stage((100 - days_before) * DAY_S);
        assert_eq!(stage(31), Stage::Far);
        assert_eq!((stage(30), stage(8)), (Stage::Days(30), Stage::Days(30)));
        assert_eq!((stage(7), stage(2)), (Stage::Days(7), Stage::Days(7)));
        assert_eq!((stage(1), end.stage(end.0 - 1)), (Stage::Days(1), Stage::Days(1)));
        assert_eq!((stage(0), stage(-5)), (Stage::Past, Stage::Past));
    }
}
