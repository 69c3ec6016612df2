//! From what is asked for to the records that answer it, out of one view.
//!
//! Handed out is what every lookup hands out: enabled, passing or warning, its agent alive; what nobody vouches for only where nothing
//! else is left (design.md §3). So answers go on from memory while this agent is cut off from all others.

use super::config::Config;
use super::draws::Draws;
use super::folded::Folded;
use super::message;
use super::name::{self, Name};
use super::prepared::{GroupId, Prepared};
use super::subject::{self, Meant, Service, Subject};
use super::text;
use crate::model::instance::{Health, Instance};
use crate::model::names::{Namespace, ServiceKey, ServiceName};
use crate::model::node::Liveness;
use crate::model::text::Text;
use crate::view::{DatacenterView, Entry, LinkState, Node, View};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV};
use hickory_proto::rr::{RData, RecordType};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// How far names inside our domains may lead to others.
const CHAIN_MAX: usize = 3;
/// Name servers in one answer.
const NAME_SERVERS_MAX: usize = 3;
/// The service that every agent is an instance of, unless somebody registers one of this name.
const AGENTS: &str = "consul";
const AGENTS_PORT: u16 = 8300;
/// Instances that a reverse lookup looks at, some milliseconds of work: in a larger catalog only nodes are found for sure.
const REVERSE_INSTANCES_MAX: usize = 20_000;

/// What an answer was made from: it stays right for as long as none of it changes.
#[derive(Debug, Clone, Default)]
pub struct Basis {
    /// Services that were looked at, there or not, with their revisions.
    services: Vec<(ServiceKey, u64)>,
    nodes_revision: u64,
    generation: u64,
}

impl Basis {
    pub fn holds(&self, view: &View, folded: &Folded) -> bool {
        self.nodes_revision == view.nodes_revision
            && self.generation == folded.generation()
            && self.services.iter().all(|(key, revision)| view.revision_of(key.namespace.as_str(), key.service.as_str()) == *revision)
    }
}

/// One question to one view.
pub struct Lookup<'a> {
    pub view: &'a View,
    pub folded: &'a Folded,
    pub config: &'a Config,
    pub draws: &'a mut Draws,
    pub basis: Basis,
    /// What else is known of the datacenter that the view is of, where it is not the own one.
    pub elsewhere: Option<&'a DatacenterView>,
    /// Services of that datacenter that were looked at and are known by their summaries.
    pub summarized: Vec<ServiceKey>,
    /// Of these some is known to be available, and its instances are not here.
    pub is_missing: bool,
}

/// Where something can be reached, on the way into an answer.
struct Offer {
    at: At,
    /// Of the other family, where the instance has several.
    tagged: [Option<IpAddr>; 2],
    port: u16,
    /// In thousandths.
    weight: u32,
    node: Option<Arc<Node>>,
}

enum At {
    Ip(IpAddr),
    Host(Name),
}

impl At {
    fn parse(address: &str) -> Option<At> {
        address.parse().map(At::Ip).ok().or_else(|| name::parse(address).map(At::Host))
    }
}

impl Offer {
    /// The address of a family.
    fn ips(&self, kind: RecordType) -> impl Iterator<Item = IpAddr> {
        let main = if let At::Ip(ip) = self.at { Some(ip) } else { None };
        let fits = move |ip: &IpAddr| {
            matches!((kind, ip), (RecordType::ANY, _) | (RecordType::A, IpAddr::V4(_)) | (RecordType::AAAA, IpAddr::V6(_)))
        };
        let [v4, v6] = self.tagged;
        let has = |ip: Option<IpAddr>| ip.filter(fits);
        has(main).or(has(v4)).or(has(v6)).into_iter()
    }
}

/// The front of an encoded instance: its address stands first.
#[derive(Deserialize)]
struct Front<'a> {
    #[serde(borrow)]
    address: Text<'a>,
}

impl<'a> Lookup<'a> {
    pub fn new(view: &'a View, folded: &'a Folded, config: &'a Config, draws: &'a mut Draws) -> Self {
        let basis = Basis { services: Vec::new(), nodes_revision: view.nodes_revision, generation: folded.generation() };
        Self { view, folded, config, draws, basis, elsewhere: None, summarized: Vec::new(), is_missing: false }
    }

    /// The answer to a question about something in `domain`, which is ours.
    pub fn answer(&mut self, subject: &Subject, asked: &Name, kind: RecordType, domain: &Name) -> Prepared {
        let prepared = match (kind, subject) {
            (RecordType::SOA, Subject::Reverse(_)) => Prepared::new(ResponseCode::NoError),
            (RecordType::SOA, _) => self.authority_record(domain),
            (RecordType::NS, Subject::Above | Subject::Service(_) | Subject::Node(_) | Subject::Address(_) | Subject::Nowhere) => {
                self.name_servers(domain)
            }
            (_, Subject::Above) => Prepared::new(ResponseCode::NoError),
            (_, Subject::Service(service)) => self.service(service, kind, domain),
            (_, Subject::Node(name)) => self.node(name, kind, asked),
            (_, Subject::Address(ip)) => self.address(*ip, kind),
            (_, Subject::Reverse(ip)) => self.reverse(*ip, kind, domain),
            (_, Subject::Nowhere | Subject::Foreign) => Prepared::new(ResponseCode::NXDomain),
        };
        self.seal(prepared, domain)
    }

    /// Nobody hears that datacenter: no resolver may keep what is said of it.
    fn is_stale(&self) -> bool {
        self.elsewhere.is_some_and(|known| known.state == LinkState::Stale)
    }

    fn service_ttl(&self, folded_name: &str) -> u32 {
        if self.is_stale() { 0 } else { self.config.service_ttl.of(folded_name) }
    }

    fn node_ttl(&self) -> u32 {
        if self.is_stale() { 0 } else { self.config.node_ttl_s }
    }

    fn seal(&self, mut prepared: Prepared, domain: &Name) -> Prepared {
        // A failure is nothing to be remembered.
        if prepared.is_empty() && prepared.rcode != ResponseCode::ServFail {
            prepared.set_authority(domain, self.authority_data(domain));
        }
        prepared.seal()
    }

    fn service(&mut self, service: &Service, kind: RecordType, domain: &Name) -> Prepared {
        let Some((folded_name, offers)) = self.offers(service) else {
            // "There is none" would be wrong, and is remembered; a failure is asked again, here or elsewhere.
            return Prepared::new(if self.is_missing { ResponseCode::ServFail } else { ResponseCode::NXDomain });
        };
        let ttl = self.service_ttl(&folded_name);
        match kind {
            RecordType::SRV => self.srv(&offers, ttl, domain),
            RecordType::A | RecordType::AAAA | RecordType::ANY => self.addresses(&offers, kind, ttl),
            _ => Prepared::new(ResponseCode::NoError),
        }
    }

    /// What can be had of a service: of the first reading of its name that finds anything, with that name.
    fn offers(&mut self, service: &Service) -> Option<(String, Vec<Offer>)> {
        let namespace = service.namespace.as_deref().unwrap_or("default");
        for (name, tag) in service.readings() {
            let mut offers = Vec::new();
            for key in self.keys(namespace, &name) {
                if let Some(found) = self.view.service(key.namespace.as_str(), key.service.as_str()) {
                    offers.extend(found.available().filter_map(|entry| self.offer(entry, tag.as_deref())));
                }
                self.note_summary(&key);
                let revision = self.view.revision_of(key.namespace.as_str(), key.service.as_str());
                self.basis.services.push((key, revision));
            }
            if name == AGENTS && tag.is_none() && namespace == "default" && self.view.service(namespace, AGENTS).is_none() {
                offers.extend(self.agents().filter_map(agent_offer));
            }
            if !offers.is_empty() {
                self.is_missing = false;
                return Some((name, offers));
            }
            if self.is_missing {
                // Whether this reading of the name finds anything is not known yet.
                return None;
            }
        }
        None
    }

    /// A service of another datacenter may be known by its summary, with its instances or without.
    fn note_summary(&mut self, key: &ServiceKey) {
        let Some(known) = self.elsewhere else { return };
        let (namespace, service) = (key.namespace.as_str(), key.service.as_str());
        if known.summary(namespace, service).is_some() {
            self.is_missing |= known.lacks(namespace, service).is_some_and(|one| one.summary.available > 0);
            self.summarized.push(key.clone());
        }
    }

    /// Nodes of agents that are alive.
    fn agents(&self) -> impl Iterator<Item = &'a Arc<Node>> + use<'a> {
        self.view.nodes.iter().filter(|node| !node.is_external && node.liveness == Liveness::Alive)
    }

    /// Services that a name in lower case means.
    fn keys(&self, namespace: &str, name: &str) -> Vec<ServiceKey> {
        let plain = Namespace::new(namespace).ok().zip(ServiceName::new(name).ok());
        let plain = plain.map(|(namespace, service)| ServiceKey { namespace, service });
        let mut keys: Vec<ServiceKey> = plain.into_iter().chain(self.folded.find(namespace, name).cloned()).collect();
        for key in self.elsewhere.into_iter().flat_map(|known| known.summarized_as(namespace, name)) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        keys
    }

    fn offer(&self, entry: &Entry, tag: Option<&str>) -> Option<Offer> {
        if entry.weight == 0 || (self.config.only_passing && entry.health != Health::Passing) {
            return None;
        }
        let (_, instance) = entry.instance().ok()?;
        if tag.is_some_and(|wanted| !instance.tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted))) {
            return None;
        }
        let address = if instance.address.is_empty() { entry.node.address.as_str() } else { instance.address.as_str() };
        Some(Offer {
            at: At::parse(address)?,
            tagged: ["lan_ipv4", "lan_ipv6"].map(|name| tagged(&instance, name)),
            port: instance.port.unwrap_or_default(),
            weight: entry.weight,
            node: Some(Arc::clone(&entry.node)),
        })
    }

    /// Addresses, or where there are none but host names, one of these and where it leads to.
    fn addresses(&mut self, offers: &[Offer], kind: RecordType, ttl: u32) -> Prepared {
        let mut prepared = Prepared::new(ResponseCode::NoError);
        let ips = unique(offers.iter().flat_map(|offer| offer.ips(kind).map(|ip| (ip, offer.weight))));
        for (ip, weight) in &ips {
            prepared.push(ttl, message::address(*ip), *weight);
        }
        if ips.is_empty() && !offers.iter().any(|offer| matches!(offer.at, At::Ip(_))) {
            self.follow(&mut prepared, offers, kind, ttl);
        }
        prepared
    }

    /// CNAME records from name to name, and the addresses at their end if that lies with us.
    fn follow(&mut self, prepared: &mut Prepared, offers: &[Offer], kind: RecordType, ttl: u32) {
        let mut target = self.any_host(offers);
        for step in 0..CHAIN_MAX {
            let Some(host) = target.take() else { return };
            if step == 0 {
                prepared.push(ttl, RData::CNAME(CNAME(host.clone())), 1);
            }
            prepared.fix();
            let Meant { subject, domain, elsewhere } = subject::parse(&host, self.config, self.view);
            if domain.is_none() {
                prepared.leads_to = self.config.recurses.then_some(host);
                return;
            }
            if elsewhere.is_some() || self.elsewhere.is_some() {
                // It means something in another view than this one: whoever asked can ask for it.
                return;
            }
            let (ttl, offers) = match &subject {
                Subject::Service(service) => {
                    let found = self.offers(service);
                    found.map_or((0, Vec::new()), |(name, offers)| (self.service_ttl(&name), offers))
                }
                Subject::Node(name) => (self.node_ttl(), self.nodes(name).iter().filter_map(node_offer).collect()),
                Subject::Address(ip) => (self.node_ttl(), vec![bare(*ip)]),
                _ => return,
            };
            for (ip, weight) in unique(offers.iter().flat_map(|offer| offer.ips(kind).map(|ip| (ip, offer.weight)))) {
                prepared.push_owned(&host, ttl, message::address(ip), weight);
            }
            if !offers.iter().any(|offer| matches!(offer.at, At::Ip(_))) {
                target = self.any_host(&offers);
                if let Some(next) = &target {
                    prepared.push_owned(&host, ttl, RData::CNAME(CNAME(next.clone())), 1);
                }
            }
        }
    }

    /// One of the host names, each by its weight: a name has one CNAME at most.
    fn any_host(&mut self, offers: &[Offer]) -> Option<Name> {
        let hosts = || offers.iter().filter_map(|offer| if let At::Host(name) = &offer.at { Some((name, offer.weight)) } else { None });
        let total: u64 = hosts().map(|(_, weight)| u64::from(weight)).sum();
        let mut point = if total == 0 { return None } else { self.draws.below(total) };
        for (name, weight) in hosts() {
            match point.checked_sub(u64::from(weight)) {
                Some(rest) => point = rest,
                None => return Some(name.clone()),
            }
        }
        None
    }

    /// Records of service, the addresses of what they name, and the texts of the nodes.
    fn srv(&self, offers: &[Offer], ttl: u32, domain: &Name) -> Prepared {
        let mut prepared = Prepared::new(ResponseCode::NoError);
        let scale = Scale::of(offers);
        let mut seen = BTreeSet::new();
        let mut addresses: BTreeMap<Name, GroupId> = BTreeMap::new();
        let mut kept = Vec::new();
        for offer in offers {
            let Some((target, glue)) = self.target(offer, domain) else { continue };
            // Two instances of one name and port are one to a client.
            if !seen.insert((target.clone(), offer.port)) {
                continue;
            }
            if let Some(ip) = glue {
                addresses.entry(target.clone()).or_insert_with(|| prepared.group(&target, ttl, [message::address(ip)]));
            }
            kept.push((offer, target));
        }
        let mut texts: BTreeMap<&str, Option<(Name, GroupId)>> = BTreeMap::new();
        for (offer, target) in kept {
            let srv = SRV::new(1, scale.apply(offer.weight), offer.port, target.clone());
            prepared.push(ttl, RData::SRV(srv), offer.weight);
            if let Some(group) = addresses.get(&target) {
                prepared.want_of_target(*group);
            }
            let Some(node) = &offer.node else { continue };
            match texts.entry(&node.name).or_insert_with(|| self.texts(node, ttl, domain, &mut prepared)) {
                Some((name, group)) if *name == target => prepared.want_of_target(*group),
                Some((_, group)) => prepared.want_of_other(*group),
                None => {}
            }
        }
        prepared
    }

    /// The texts of a node as additional records, with its name.
    fn texts(&self, node: &Node, ttl: u32, domain: &Name, prepared: &mut Prepared) -> Option<(Name, GroupId)> {
        let name = self.node_name(node, domain).filter(|_| !node.metadata.is_empty())?;
        let group = prepared.group(&name, ttl, text::records(&node.metadata));
        Some((name, group))
    }

    /// The name under which an address is asked for: its node's, if it is the node's; else one made of the address.
    fn target(&self, offer: &Offer, domain: &Name) -> Option<(Name, Option<IpAddr>)> {
        let ip = match &offer.at {
            At::Host(name) => return Some((name.clone(), None)),
            At::Ip(ip) => *ip,
        };
        let node = offer.node.as_ref().filter(|node| node.address.parse() == Ok(ip));
        let name = node.and_then(|node| self.node_name(node, domain)).or_else(|| {
            let digits = match ip {
                IpAddr::V4(ip) => format!("{:08x}", ip.to_bits()),
                IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
            };
            self.name_in(&digits, "addr", domain)
        });
        Some((name?, Some(ip)))
    }

    fn node_name(&self, node: &Node, domain: &Name) -> Option<Name> {
        self.name_in(&node.name, "node", domain)
    }

    /// `name.keyword.dc.domain`.
    fn name_in(&self, name: &str, keyword: &str, domain: &Name) -> Option<Name> {
        let datacenter = self.view.agent.datacenter.split('.').filter(|label| !label.is_empty());
        name::under(name.split('.').chain([keyword]).chain(datacenter).map(str::as_bytes), domain)
    }

    fn nodes(&self, folded: &str) -> Vec<Arc<Node>> {
        let is_there = |node: &&Arc<Node>| node.liveness != Liveness::Left;
        if let Some(node) = self.view.node(folded).filter(is_there) {
            return vec![Arc::clone(node)];
        }
        self.view.nodes.iter().filter(|node| node.name.eq_ignore_ascii_case(folded)).filter(is_there).cloned().collect()
    }

    fn node(&mut self, name: &str, kind: RecordType, asked: &Name) -> Prepared {
        let nodes = self.nodes(name);
        if nodes.is_empty() {
            return Prepared::new(ResponseCode::NXDomain);
        }
        let offers: Vec<Offer> = nodes.iter().filter_map(node_offer).collect();
        let ttl = self.node_ttl();
        let mut prepared = match kind {
            RecordType::A | RecordType::AAAA | RecordType::ANY => self.addresses(&offers, kind, ttl),
            _ => Prepared::new(ResponseCode::NoError),
        };
        let texts = || nodes.iter().flat_map(|node| text::records(&node.metadata));
        match kind {
            RecordType::TXT | RecordType::ANY => texts().for_each(|text| prepared.push(ttl, text, 1)),
            _ if prepared.is_empty() => {}
            _ => {
                let group = prepared.group(asked, ttl, texts());
                prepared.want_of_question(group);
            }
        }
        prepared
    }

    fn address(&self, ip: IpAddr, kind: RecordType) -> Prepared {
        let mut prepared = Prepared::new(ResponseCode::NoError);
        for ip in bare(ip).ips(kind) {
            prepared.push(self.node_ttl(), message::address(ip), 1);
        }
        prepared
    }

    /// Who has an address: a node, else the first service that has an instance there.
    fn reverse(&self, ip: IpAddr, kind: RecordType, domain: &Name) -> Prepared {
        let has_ip = |address: &str| address.parse() == Ok(ip);
        let node = self.view.nodes.iter().find(|node| node.liveness != Liveness::Left && has_ip(&node.address));
        let name = node.and_then(|node| self.node_name(node, domain)).or_else(|| {
            let entries = self.view.services(None).flat_map(|service| service.entries.iter().map(move |entry| (service, entry)));
            let mut looked_at = entries.take(REVERSE_INSTANCES_MAX);
            let found = looked_at.find(|(_, entry)| entry.content.decode::<Front<'_>>().is_ok_and(|(_, front)| has_ip(&front.address)));
            found.and_then(|(service, _)| self.name_in(service.key.service.as_str(), "service", domain))
        });
        let Some(name) = name else { return Prepared::new(ResponseCode::NXDomain) };
        let mut prepared = Prepared::new(ResponseCode::NoError);
        if matches!(kind, RecordType::PTR | RecordType::ANY) {
            prepared.push(0, RData::PTR(PTR(name)), 1);
        }
        prepared
    }

    /// Agents that are alive: each of them answers for the whole datacenter.
    fn name_servers(&mut self, domain: &Name) -> Prepared {
        let mut prepared = Prepared::new(ResponseCode::NoError);
        let agents: Vec<_> = self.agents().collect();
        let first = if agents.is_empty() { 0 } else { self.draws.below(agents.len() as u64) as usize };
        for node in agents.iter().cycle().skip(first).take(NAME_SERVERS_MAX.min(agents.len())) {
            if let (Some(name), Ok(ip)) = (self.node_name(node, domain), node.address.parse()) {
                let ttl = self.node_ttl();
                let group = prepared.group(&name, ttl, [message::address(ip)]);
                prepared.push_owned(domain, ttl, RData::NS(NS(name)), 1);
                prepared.want_of_target(group);
            }
        }
        prepared
    }

    fn authority_record(&self, domain: &Name) -> Prepared {
        let mut prepared = Prepared::new(ResponseCode::NoError);
        prepared.push_owned(domain, 0, self.authority_data(domain), 1);
        prepared
    }

    /// The serial rises with what is seen here, a second a second; what is not there is not remembered by anyone.
    fn authority_data(&self, domain: &Name) -> RData {
        // A domain so long that nothing fits in front of it names itself.
        let name = |label: &str| name::under([label.as_bytes()], domain).unwrap_or_else(|| domain.clone());
        let serial = (self.view.revision >> 10) / 1_000;
        RData::SOA(SOA::new(name("ns"), name("hostmaster"), serial as u32, 3_600, 600, 86_400, 0))
    }
}

/// Addresses once each, with the sum of their weights, in the order in which they came.
fn unique(ips: impl Iterator<Item = (IpAddr, u32)>) -> Vec<(IpAddr, u32)> {
    let mut places = std::collections::BTreeMap::new();
    let mut unique: Vec<(IpAddr, u32)> = Vec::new();
    for (ip, weight) in ips {
        let at = *places.entry(ip).or_insert(unique.len());
        match unique.get_mut(at) {
            Some((_, sum)) => *sum = sum.saturating_add(weight),
            None => unique.push((ip, weight)),
        }
    }
    unique
}

fn tagged(instance: &Instance<'_>, name: &str) -> Option<IpAddr> {
    let at = instance.addresses.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
    instance.addresses[at].1.address.parse().ok()
}

fn node_offer(node: &Arc<Node>) -> Option<Offer> {
    Some(Offer { at: At::parse(&node.address)?, tagged: [None; 2], port: 0, weight: 1, node: None })
}

/// An agent as an instance of the service that all agents are: on the port that Consul's servers have.
fn agent_offer(node: &Arc<Node>) -> Option<Offer> {
    Some(Offer { port: AGENTS_PORT, weight: 1_000, node: Some(Arc::clone(node)), ..node_offer(node)? })
}

fn bare(ip: IpAddr) -> Offer {
    Offer { at: At::Ip(ip), tagged: [None; 2], port: 0, weight: 1, node: None }
}

/// Weights in thousandths as the 16 bits of an SRV record: whole ones as they are, else so that their proportions stay.
enum Scale {
    Whole,
    Thousandths,
    Share(u32),
}

impl Scale {
    fn of(offers: &[Offer]) -> Self {
        let most = offers.iter().map(|offer| offer.weight).max().unwrap_or(0);
        if offers.iter().all(|offer| offer.weight % 1_000 == 0) {
            Scale::Whole
        } else if most <= u32::from(u16::MAX) {
            Scale::Thousandths
        } else {
            Scale::Share(most)
        }
    }

    fn apply(&self, weight: u32) -> u16 {
        let scaled = match self {
            Scale::Whole => u64::from(weight) / 1_000,
            Scale::Thousandths => u64::from(weight),
            Scale::Share(most) => u64::from(weight) * u64::from(u16::MAX) / u64::from(*most),
        };
        u16::try_from(scaled).unwrap_or(u16::MAX).max(1)
    }
}
