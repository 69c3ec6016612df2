//! Which requests a browser may make (design.md §5).
//!
//! The port sits on the loopback of every developer's browser, so a request must call the agent by a name that is its own, and a change
//! must not come from a page of somebody else.

use std::net::IpAddr;

use super::Denied;

/// What of a request decides whether it is let in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The `Host` header, or the authority of HTTP/2.
    pub host: Option<&'a str>,
    /// The `Origin` header: who made a browser ask.
    pub origin: Option<&'a str>,
    /// Whether the client knows by a certificate whom it calls: then no name server can have led a browser here under a foreign name.
    pub is_named_by_certificate: bool,
    /// Whether it may change anything.
    pub is_change: bool,
}

/// The rules of one agent's listeners.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// Names it may be called by, besides IPs and localhost; in lower case.
    hosts: Vec<String>,
}

impl Door {
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        Self { hosts: hosts.into_iter().map(str::to_ascii_lowercase).collect() }
    }

    /// # Errors
    /// Says which rule the request breaks.
    pub fn check(&self, asked: &Asked<'_>) -> Result<(), Denied> {
        if let Some(host) = asked.host
            && !asked.is_named_by_certificate
            && !self.is_own(host)
        {
            return Err(Denied::Misdirected { host: host.to_owned() });
        }
        if let Some(origin) = asked.origin
            && asked.is_change
            && !asked.host.is_some_and(|host| is_origin_of(origin, host))
        {
            return Err(Denied::ForeignOrigin { origin: origin.to_owned() });
        }
        Ok(())
    }

    /// An address cannot be bent to us by a foreign name server, nor can localhost; any other name must be configured.
    fn is_own(&self, host: &str) -> bool {
        let name = name_of(host);
        if name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The name in `name:port`, `[v6]:port` or either without a port.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match host.rsplit_once(':') {
        // More than one colon: a bare v6 address.
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

/// Whether an origin, `scheme://authority`, names the authority that the request itself was sent to.
fn is_origin_of(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, authority)| matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(host: &'a str, origin: Option<&'a str>, is_change: bool) -> Asked<'a> {
        Asked { host: Some(host), origin, is_change, is_named_by_certificate: false }
    }

    #[test]
    fn an_agent_answers_to_addresses_localhost_and_configured_names_only() {
        let door = Door::new(["Registry.example"]);
        for host in ["127.0.0.1:8500", "127.0.0.1", "[::1]:8500", "[::1]", "::1", "localhost:1", "LOCALHOST", "registry.EXAMPLE:8500"] {
            assert_eq!(door.check(&asked(host, None, true)), Ok(()), "{host}");
        }
        for host in ["evil.example", "evil.example:8500", "127.0.0.1.evil.example", "", "localhost.evil.example:80", "[evil]:1"] {
            assert_eq!(door.check(&asked(host, None, false)), Err(Denied::Misdirected { host: host.into() }));
        }
        let by_certificate = Asked { is_named_by_certificate: true, ..asked("n1.example:8500", None, true) };
        assert_eq!(door.check(&by_certificate), Ok(()));
        assert_eq!(door.check(&Asked::default()), Ok(()), "what names nobody is no browser");
    }

    #[test]
    fn only_pages_of_the_agent_itself_may_change_anything() {
        let door = Door::default();
        assert_eq!(door.check(&asked("localhost:8500", Some("http://localhost:8500"), true)), Ok(()));
        assert_eq!(door.check(&asked("localhost:8500", Some("http://evil.example"), false)), Ok(()));
        for origin in ["http://localhost:3000", "http://evil.example", "null", "file://", "ftp://localhost:8500"] {
            assert!(matches!(door.check(&asked("localhost:8500", Some(origin), true)), Err(Denied::ForeignOrigin { .. })), "{origin}");
        }
    }
}
