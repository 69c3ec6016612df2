//! Seeds as people name them, as addresses: names are resolved again and again, for hosts move.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::agent::handle::Handle;
use crate::model::command::{Command, Refusal};

/// Addresses of all seeds together; more would be a mistake in the name service.
const ADDRESSES_MAX: usize = 256;
/// How long a name service may take for one name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often names are resolved again.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// The addresses of `host:port` texts, each once, in order; and what could not be resolved.
pub async fn resolve(seeds: &[String]) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut found, mut failed) = (BTreeSet::new(), Vec::new());
    for seed in seeds {
        if let Ok(address) = seed.parse::<SocketAddr>() {
            found.insert(address);
            continue;
        }
        match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(seed)).await {
            Ok(Ok(addresses)) => found.extend(addresses),
            Ok(Err(why)) => failed.push(format!("{seed}: {why}")),
            Err(_) => failed.push(format!("{seed}: the name service did not answer within {} s", RESOLVE_TIMEOUT.as_secs())),
        }
    }
    (found.into_iter().take(ADDRESSES_MAX).collect(), failed)
}

/// Announces this agent to addresses an operator names now. Says to how many.
///
/// # Errors
/// None of the names resolves, or the engine refuses.
pub async fn join(handle: &Handle, seeds: &[String]) -> Result<usize, Refusal> {
    let (addresses, failed) = resolve(seeds).await;
    if addresses.is_empty() {
        return Err(Refusal::Invalid { what: format!("none of the addresses can be resolved: {}", failed.join(", ")) });
    }
    let count = addresses.len();
    handle.call(Command::Join(addresses)).await?;
    Ok(count)
}

/// Keeps the engine's seeds what their names say, until the agent stops; `tell` makes the command that tells them. Joining itself never
/// ends: it is the engine's.
pub async fn keep_resolved(handle: Handle, mut seeds: tokio::sync::watch::Receiver<Vec<String>>, tell: fn(Vec<SocketAddr>) -> Command) {
    let mut known = None;
    let mut complained = false;
    loop {
        let wanted = seeds.borrow_and_update().clone();
        let (addresses, failed) = resolve(&wanted).await;
        if !failed.is_empty() && !complained {
            tracing::warn!(seeds = ?failed, "some seeds cannot be resolved; trying on");
        }
        complained = !failed.is_empty();
        // A name service that is down takes no seed away.
        let is_usable = !addresses.is_empty() || wanted.is_empty();
        let is_news = is_usable && known.as_ref() != Some(&addresses);
        if is_news && handle.call(tell(addresses.clone())).await.is_ok() {
            known = Some(addresses);
        }
        tokio::select! {
            () = handle.stopping() => return,
            changed = seeds.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RESOLVE_INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_names_are_gathered_and_failures_are_named() {
        let seeds = ["127.0.0.1:5", "127.0.0.1:5", "localhost:6", "no-such-host.invalid:7"].map(str::to_owned);
        let (found, failed) = resolve(&seeds).await;
        assert!(found.contains(&"127.0.0.1:5".parse().unwrap()));
        assert!(found.iter().any(|address| address.port() == 6));
        assert_eq!(failed.len(), 1);
        assert!(failed[0].starts_with("no-such-host.invalid:7"));
    }
}
