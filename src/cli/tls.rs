//! `tidings tls`: an authority and certificates, for those who have none.
//!
//! One authority for all agents and clients of a cluster: its private key stays where certificates are made, its certificate goes
//! everywhere. Certificates serve for both sides, so that mutual TLS needs no second kind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

use super::secret::{self, SECRET_MODE};
use super::{Exit, Failure};
use crate::agent::handle::wall_ms;
use crate::agent::links::certificate_name;

const CERTIFICATE_MODE: u32 = 0o644;
/// Certificates begin an hour ago, for clocks that are behind.
const BEGIN_BEFORE: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const CA_DAYS: u32 = 3_650;
const CERT_DAYS: u32 = 397;
const DAYS_MAX: u32 = 36_500;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make an authority: ca.pem, which everybody gets, and ca-key.pem, which stays here.
    Ca(Ca),
    /// Make a certificate of that authority, for an agent or a client: cert.pem and key.pem; for a gateway, gateway.pem and gateway-key.pem.
    Cert(Cert),
}

#[derive(Debug, clap::Args)]
struct Ca {
    /// The name of the authority.
    #[arg(long, value_name = "NAME", default_value = "tidings authority")]
    name: String,
    /// For so many days.
    #[arg(long, default_value_t = CA_DAYS, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
    days: u32,
    /// Where to put the files.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Cert {
    /// The authority's certificate.
    #[arg(long, value_name = "FILE", default_value = "ca.pem")]
    ca: PathBuf,
    /// Its private key.
    #[arg(long, value_name = "FILE", default_value = "ca-key.pem")]
    ca_key: PathBuf,
    /// A name or an IP by which it is called; give it again for more. localhost, 127.0.0.1 and ::1 are always there.
    #[arg(long = "host", value_name = "NAME|IP", required_unless_present = "gateway")]
    hosts: Vec<String>,
    /// For links between datacenters instead (wan.tls): the datacenter that its gateways are of.
    #[arg(long, value_name = "DATACENTER", value_parser = certificate_name, conflicts_with = "hosts")]
    gateway: Option<String>,
    /// For so many days.
    #[arg(long, default_value_t = CERT_DAYS, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
    days: u32,
    /// Where to put the files.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.what {
        What::Ca(arguments) => ca(arguments),
        What::Cert(arguments) => cert(arguments),
    }
}

fn ca(arguments: &Ca) -> Result<(), Failure> {
    let mut params = params(Vec::new(), &arguments.name, arguments.days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(cannot)?;
    let made = params.self_signed(&key).map_err(cannot)?;
    put(&arguments.out, ["ca.pem", "ca-key.pem"], &made.pem(), &key)
}

fn cert(arguments: &Cert) -> Result<(), Failure> {
    let unusable = |path: &Path, why: &str| Failure::new(Exit::Usage, format!("{} cannot be used: {why}", path.display()));
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|why| unusable(path, &why.to_string()));
    let (ca, ca_key) = (read(&arguments.ca)?, read(&arguments.ca_key)?);
    let ca_key = KeyPair::from_pem(&ca_key).map_err(|_| unusable(&arguments.ca_key, "it holds no private key in PEM"))?;
    if !is_key_of(&ca_key, &ca).ok_or_else(|| unusable(&arguments.ca, "it holds no certificate in PEM"))? {
        return Err(unusable(&arguments.ca_key, "it is not the key of that authority"));
    }
    let issuer = Issuer::from_ca_cert_pem(&ca, ca_key).map_err(|why| unusable(&arguments.ca, &why.to_string()))?;
    let (hosts, files) = match &arguments.gateway {
        // It is of use for nothing else.
        Some(name) => (vec![name.clone()], ["gateway.pem", "gateway-key.pem"]),
        None => (with_own(&arguments.hosts), ["cert.pem", "key.pem"]),
    };
    let mut params = params(hosts.clone(), &hosts[0], arguments.days)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().map_err(cannot)?;
    let made = params.signed_by(&key, &issuer).map_err(cannot)?;
    put(&arguments.out, files, &made.pem(), &key)
}

/// What an agent is called, and what it is always called on its own host.
fn with_own(hosts: &[String]) -> Vec<String> {
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    hosts.iter().cloned().chain(own.into_iter().filter(|own| !hosts.contains(own))).collect()
}

/// Whether an authority's certificate is about this key; none: it is no certificate.
fn is_key_of(key: &KeyPair, pem: &str) -> Option<bool> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some(*certificate.public_key().subject_public_key.data == *key.public_key_raw())
}

fn params(hosts: Vec<String>, name: &str, days: u32) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(hosts).map_err(|why| Failure::new(Exit::Usage, format!("a host cannot be named so: {why}")))?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    let now = date_time_ymd(1970, 1, 1) + Duration::from_millis(wall_ms());
    params.not_before = now - BEGIN_BEFORE;
    params.not_after = now + DAY * days;
    Ok(params)
}

/// Writes both files or says why not; neither may be there yet.
fn put(dir: &Path, [certificate, private]: [&str; 2], pem: &str, key: &KeyPair) -> Result<(), Failure> {
    let (certificate, private) = (dir.join(certificate), dir.join(private));
    secret::write_new(&certificate, pem, CERTIFICATE_MODE)?;
    if let Err(failure) = secret::write_new(&private, &key.serialize_pem(), SECRET_MODE) {
        // A certificate whose key nobody has is of no use.
        let _ = std::fs::remove_file(&certificate);
        return Err(failure);
    }
    super::print(&format!("{}\n{}\n", certificate.display(), private.display()))
}

fn cannot(why: rcgen::Error) -> Failure {
    Failure::failed(format!("the certificate cannot be made: {why}"))
}
