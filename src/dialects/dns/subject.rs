//! What a name asks for.
//!
//! ```text
//! [tag.]name.service[.dc].domain            name and tag may hold dots: see [`Service::readings`]
//! _name._tag.service[.dc].domain            RFC 2782; `_tcp` is no tag; `service` may be left out
//! name.query[.dc].domain                    the same as service: prepared queries need a consensus store
//! node.node[.dc].domain                     a node's name may hold dots
//! <8 or 32 hex digits>.addr[.dc].domain     an address by itself
//! ….<namespace>.ns[.<dc>.dc].domain         the long form of what stands behind the keyword
//! d.c.b.a.in-addr.arpa, ….ip6.arpa          who has that address
//! ```
//!
//! Names compare without their case. A label is at most 63 bytes, and may hold any of them: a service `a b` is asked for as
//! `a\032b.service`, `group@@name` as it stands. `dc` is this datacenter's name or that of another one that is known here.

use super::config::Config;
use super::name::{self, Name};
use crate::view::{DatacenterView, View};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Ways to read a name with dots, at most: labels in the service's name.
const READINGS_MAX: usize = 8;

/// A name outside its domain and datacenter, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A domain itself, or a part of all names in it: exists, and has nothing of its own.
    Above,
    Service(Service),
    Node(String),
    Address(IpAddr),
    Reverse(IpAddr),
    /// Lies in a domain of ours, and there is no such thing.
    Nowhere,
    /// Not ours.
    Foreign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Labels before the keyword.
    labels: Vec<String>,
    /// Labels are `_name._tag`.
    is_rfc2782: bool,
    /// None: the default one.
    pub namespace: Option<String>,
}

impl Service {
    /// Names with the tag that an instance must have, in the order in which they count.
    ///
    /// Only the last label is the name, as Consul reads it; where that finds nothing, more of them are: `com.example.web` is first
    /// `web` with the tag `com.example`, then `example.web` with the tag `com`, then a service of that whole name.
    pub fn readings(&self) -> impl Iterator<Item = (String, Option<String>)> {
        let rfc2782 = self.is_rfc2782.then(|| {
            let tag = self.labels[1][1..].to_owned();
            (self.labels[0][1..].to_owned(), (tag != "tcp").then_some(tag))
        });
        let splits = if self.is_rfc2782 { 0 } else { self.labels.len() };
        let plain = (0..splits).rev().take(READINGS_MAX).map(|at| {
            let tag = (at > 0).then(|| self.labels[..at].join("."));
            (self.labels[at..].join("."), tag)
        });
        rfc2782.into_iter().chain(plain)
    }
}

/// What a name asks for, and where.
#[derive(Debug)]
pub struct Meant<'c, 'v> {
    pub subject: Subject,
    /// The domain that the name ends in.
    pub domain: Option<&'c Name>,
    /// The datacenter that is meant, where it is not the own one.
    pub elsewhere: Option<&'v Arc<DatacenterView>>,
}

/// Reads a name as this agent's view has datacenters.
pub fn parse<'c, 'v>(name: &Name, config: &'c Config, view: &'v View) -> Meant<'c, 'v> {
    // Names that are no text are nobody's: they match nothing below.
    let labels = name::labels(name);
    for domain in &config.domains {
        if let Some(inside) = labels.strip_suffix(name::labels(domain).as_slice()) {
            let (subject, elsewhere) = inside_domain(inside, view);
            return Meant { subject, domain: Some(domain), elsewhere };
        }
    }
    Meant { subject: reverse(&labels).unwrap_or(Subject::Foreign), domain: None, elsewhere: None }
}

fn inside_domain<'v>(labels: &[String], view: &'v View) -> (Subject, Option<&'v Arc<DatacenterView>>) {
    const KEYWORDS: [&str; 7] = ["service", "query", "node", "addr", "connect", "virtual", "ingress"];
    let Some(at) = labels.iter().rposition(|label| KEYWORDS.contains(&label.as_str())) else {
        return without_keyword(labels, view);
    };
    let (before, after) = (&labels[..at], &labels[at + 1..]);
    let Some(place) = Place::parse(after, view) else { return (Subject::Nowhere, None) };
    if before.is_empty() {
        return (Subject::Above, None);
    }
    let subject = match labels[at].as_str() {
        "service" | "query" => {
            Subject::Service(Service { is_rfc2782: is_rfc2782(before), labels: before.to_vec(), namespace: place.namespace })
        }
        "node" => Subject::Node(before.join(".")),
        "addr" => address(before).map_or(Subject::Nowhere, Subject::Address),
        _ => Subject::Nowhere,
    };
    (subject, place.elsewhere)
}

/// `_name._tcp` may stand alone; a datacenter by itself is above what is in it.
fn without_keyword<'v>(labels: &[String], view: &'v View) -> (Subject, Option<&'v Arc<DatacenterView>>) {
    if labels.is_empty() || Place::parse(labels, view).is_some() {
        return (Subject::Above, None);
    }
    let (before, after) = labels.split_at(labels.len().min(2));
    match Place::parse(after, view) {
        Some(place) if is_rfc2782(before) => {
            let service = Service { labels: before.to_vec(), is_rfc2782: true, namespace: place.namespace };
            (Subject::Service(service), place.elsewhere)
        }
        _ => (Subject::Nowhere, None),
    }
}

fn is_rfc2782(labels: &[String]) -> bool {
    labels.len() == 2 && labels.iter().all(|label| label.len() > 1 && label.starts_with('_'))
}

/// What stands behind the keyword: where to look.
#[derive(Default)]
struct Place<'v> {
    namespace: Option<String>,
    elsewhere: Option<&'v Arc<DatacenterView>>,
}

impl<'v> Place<'v> {
    /// None where that place is not known here: a datacenter nobody told of, or a word of Consul's Enterprise.
    fn parse(labels: &[String], view: &'v View) -> Option<Self> {
        let mut place = Place::default();
        let mut rest = labels;
        if rest.is_empty() {
            return Some(place);
        }
        if !matches!(rest.last().map(String::as_str), Some("ns" | "dc" | "ap" | "peer" | "sg")) {
            return place.enter(&rest.join("."), view).then_some(place);
        }
        // From the back: a datacenter's or namespace's name may hold dots, the words before it do not.
        while let Some((word, names)) = rest.split_last() {
            let is_word = |label: &String| matches!(label.as_str(), "ns" | "dc" | "ap" | "peer" | "sg");
            let from = names.iter().rposition(is_word).map_or(0, |at| at + 1);
            let name = names[from..].join(".");
            match word.as_str() {
                "ns" if !name.is_empty() && place.namespace.is_none() => place.namespace = Some(name),
                "dc" if place.enter(&name, view) => {}
                _ => return None,
            }
            rest = &names[..from];
        }
        Some(place)
    }

    /// Whether there is such a datacenter.
    fn enter(&mut self, name: &str, view: &'v View) -> bool {
        if name.eq_ignore_ascii_case(&view.agent.datacenter) {
            return true;
        }
        self.elsewhere = view.datacenters.iter().find(|known| known.name.eq_ignore_ascii_case(name));
        self.elsewhere.is_some()
    }
}

fn address(labels: &[String]) -> Option<IpAddr> {
    let [digits] = labels else { return None };
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match digits.len() {
        8 if is_hex => u32::from_str_radix(digits, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 if is_hex => u128::from_str_radix(digits, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

fn reverse(labels: &[String]) -> Option<Subject> {
    let (name, zone) = labels.split_at(labels.len().checked_sub(2)?);
    let ip = match zone {
        [family, arpa] if arpa == "arpa" && family == "in-addr" => reverse_v4(name),
        [family, arpa] if arpa == "arpa" && family == "ip6" => reverse_v6(name),
        _ => return None,
    };
    Some(ip.map_or(Subject::Foreign, Subject::Reverse))
}

fn reverse_v4(labels: &[String]) -> Option<IpAddr> {
    let octets: Vec<u8> = labels.iter().rev().map(|label| label.parse().ok()).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into())
}

fn reverse_v6(labels: &[String]) -> Option<IpAddr> {
    let nibble = |label: &String| (label.len() == 1).then(|| u128::from_str_radix(label, 16).ok()).flatten();
    let nibbles: Vec<u128> = labels.iter().rev().map(nibble).collect::<Option<_>>()?;
    let bits = (nibbles.len() == 32).then(|| nibbles.iter().fold(0, |bits, nibble| bits << 4 | nibble))?;
    Some(Ipv6Addr::from_bits(bits).into())
}
