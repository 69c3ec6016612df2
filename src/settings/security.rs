//! What an agent refuses to do unless it is told `--insecure`. Each refusal says what, where, and what to type.

use std::net::SocketAddr;

use super::{Listen, Problem, Settings, Tls};
use crate::access::Need;

/// Whether these settings are safe together.
///
/// # Errors
/// The refusal, with what to type instead.
pub fn check(settings: &Settings) -> Result<(), Problem> {
    let speaks_tls = settings.http.listen.iter().any(|at| matches!(at, Listen::Tls(_)));
    if settings.tls != Tls::default() && !speaks_tls {
        // Whoever made certificates means to be safe, and would not be.
        return Err(Problem::new("settings of [tls] are there, and no listener speaks TLS").hint("Write --http https://ADDR:PORT."));
    }
    if settings.gossip.insecure {
        return Ok(());
    }
    let gossip = &settings.gossip;
    let open = [Some(gossip.listen), gossip.advertise].into_iter().flatten().find(|address| !address.ip().is_loopback());
    if let (None, Some(address)) = (&gossip.key, open) {
        return Err(gossip_in_clear(address));
    }
    if let Some(wan) = settings.wan.as_ref().filter(|wan| wan.key.is_none()) {
        let open = [Some(wan.listen), wan.advertise].into_iter().flatten().find(|address| !address.ip().is_loopback());
        if let Some(address) = open {
            return Err(wan_in_clear(address));
        }
    }
    // TLS alone hides what is said and keeps nobody out.
    let listens_openly = |at: &&Listen| match at {
        Listen::Tcp(address) => !address.ip().is_loopback(),
        Listen::Tls(address) => !address.ip().is_loopback() && settings.tls.client_ca.is_none(),
        Listen::Unix(_) => false,
    };
    // Whoever set rules for requests without a token decided on them.
    let rules = &settings.access.rules;
    if let (true, Some(at)) = (rules.is_open(), settings.http.listen.iter().find(listens_openly)) {
        return Err(http_in_clear(at));
    }
    // DNS knows no tokens: it is for all who may read without one.
    let all_may_read = !rules.is_open() && rules.caller(None).may(Need::Read).is_ok();
    match settings.dns.listen.iter().find(|at| !at.ip().is_loopback()) {
        Some(at) if !all_may_read => Err(dns_in_clear(*at)),
        _ => Ok(()),
    }
}

fn gossip_in_clear(address: SocketAddr) -> Problem {
    Problem::new(format!("gossip at {address} would be open to everyone who reaches it: there is no key")).hint(
        "To try tidings on this machine alone:\n\
         \n    tidings agent --dev\n\
         \nFor several hosts, make one key, copy it to every host, and start each agent with it:\n\
         \n    tidings keygen --out key\
         \n    tidings agent --encrypt @key\
         \n    tidings agent --encrypt @key --join HOST:7976      (the others, with one of the hosts)\n\
         \nWhere the network itself can be trusted: --insecure.",
    )
}

fn wan_in_clear(address: SocketAddr) -> Problem {
    Problem::new(format!("the gateway at {address} would be open to everyone who reaches it: there is no key")).hint(
        "Make one key for the gateways of all datacenters:\n\
         \n    tidings keygen --out wan-key\
         \n    [wan]\
         \n    encrypt = \"@wan-key\"\n\
         \nor give every datacenter the same --encrypt @key. Where the network itself can be trusted: --insecure.",
    )
}

fn http_in_clear(at: &Listen) -> Problem {
    Problem::new(format!("the HTTP API at {at} would be open to everyone who reaches it: there are neither tokens nor mutual TLS")).hint(
        "Every host runs its own agent, and clients ask the one beside them:\n\
         \n    --http 127.0.0.1:8500          (the default)\
         \n    --http unix:/run/tidings.sock\n\
         \nWhere others must reach it, let them show tokens:\n\
         \n    tidings token --out token >> tidings.toml\
         \n    tidings agent --config tidings.toml\n\
         \nWhere the network itself can be trusted: --insecure.",
    )
}

fn dns_in_clear(at: SocketAddr) -> Problem {
    Problem::new(format!("DNS at {at} would answer everyone who reaches it: it knows no tokens")).hint(
        "Every host runs its own agent, and its resolver forwards the domain to it:\n\
         \n    --dns 127.0.0.1:8600           (the default)\
         \n    --no-dns\n\
         \nWhere everybody may read, settings can say so: access.anonymous = [\"read\"].\
         \nWhere the network itself can be trusted: --insecure.",
    )
}
