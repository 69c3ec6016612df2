//! Blocking queries: the one place where a read waits for a change (reference/consul.md §1.11).
//!
//! An index is a revision of this agent's view: of the services a query is about, or of whatever else decides on its answer. It is local
//! to this agent, so a client that comes from another one may know a higher index; it is answered at once and follows ours from then on.

use std::sync::Arc;
use std::time::Duration;

use super::Consul;
use super::refuse::Failure;
use super::request::Params;
use crate::model::names::ServiceKey;
use crate::view::View;

/// A sixteenth of the wait is added at random, so that clients that began together do not come back together.
const JITTER_DIVISOR: u32 = 16;

/// What wakes a waiting query.
#[derive(Debug, Clone)]
pub enum Watched {
    /// These services alone.
    Services(Vec<ServiceKey>),
    /// A change of the names of services, or of their tags.
    Names,
    /// Any change of the view.
    Everything,
}

/// The view to answer a query from: at once where it names no index or another than the current one, else when the index moves or its
/// time is over.
///
/// # Errors
/// The index or the time to wait is no number or duration.
pub async fn block(consul: &Consul, params: &Params, watched: Watched, index_of: impl Fn(&View) -> u64) -> Result<Arc<View>, Failure> {
    let (index, wait) = (params.index()?, params.wait()?);
    if index == 0 {
        return Ok(consul.handle.view());
    }
    Ok(wait_until(consul, wait, watched, |view| index_of(view).max(1) != index).await)
}

/// The first view that is as wanted, or the one at the end of the wait; or of the agent, which lets nobody wait on.
pub async fn wait_until(consul: &Consul, wait: Duration, watched: Watched, is_met: impl Fn(&View) -> bool) -> Arc<View> {
    let view = consul.handle.view();
    if is_met(&view) {
        return view;
    }
    let wait = wait + jitter(wait, consul.dice.roll());
    let met = tokio::time::timeout(wait, next_that_is(consul, watched, is_met)).await;
    met.unwrap_or_else(|_| consul.handle.view())
}

async fn next_that_is(consul: &Consul, watched: Watched, is_met: impl Fn(&View) -> bool) -> Arc<View> {
    let handle = &consul.handle;
    // The watch begins before the look, or a change between the two would be missed.
    match watched {
        Watched::Services(services) => {
            let mut watch = handle.watch(services);
            let mut view = handle.view();
            while !is_met(&view) && !handle.is_stopping() {
                view = watch.changed().await;
            }
            view
        }
        Watched::Names => {
            let mut watch = consul.picture.watch_names();
            let mut view = handle.view();
            while !is_met(&view) && !handle.is_stopping() {
                // The sender lives in what this query holds.
                let _ = watch.changed().await;
                view = handle.view();
            }
            view
        }
        Watched::Everything => {
            let mut watch = handle.watch_all();
            let mut view = handle.view();
            while !is_met(&view) && !handle.is_stopping() {
                view = watch.changed().await;
            }
            view
        }
    }
}

fn jitter(wait: Duration, random: u64) -> Duration {
    let most_ms = u64::try_from((wait / JITTER_DIVISOR).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(if most_ms == 0 { 0 } else { random % (most_ms + 1) })
}
