//! Writes that depend on what is there: looked at, made, and made again if it changed meanwhile.

use crate::agent::handle::Handle;
use crate::dialects::consul::Consul;
use crate::dialects::consul::mapping;
use crate::dialects::consul::refuse::Failure;
use crate::model::command::{Command, Condition, Refusal, Registration};
use crate::model::instance::{Instance, Lease};
use crate::model::names::{InstanceId, ServiceKey};
use crate::model::record::Uid;
use crate::view::View;

/// Attempts of a write whose ground keeps moving.
const ATTEMPTS: usize = 8;

/// Hands in what `decide` makes of the present view, again for as long as its condition does not hold.
pub async fn decide_and_write(handle: &Handle, decide: impl Fn(&View) -> Result<Command, Failure>) -> Result<(), Failure> {
    let mut refused = Refusal::Condition { version: None };
    for _ in 0..ATTEMPTS {
        match handle.call(decide(&handle.view())?).await {
            Ok(_) => return Ok(()),
            Err(refusal @ Refusal::Condition { .. }) => refused = refusal,
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err(refused.into())
}

/// Changes the checks of an instance, and what is known of them. `gone` is said where the instance is no longer there.
pub async fn change_checks(
    consul: &Consul,
    service: &ServiceKey,
    uid: Uid,
    gone: impl Fn() -> Failure,
    change: impl Fn(&mut Instance<'static>),
) -> Result<(), Failure> {
    decide_and_write(&consul.handle, |view| {
        let known = view.service(service.namespace.as_str(), service.service.as_str()).and_then(|known| known.find(uid));
        let entry = known.ok_or_else(&gone)?;
        let (key, before) = entry.instance().map_err(|undecodable| Failure::failed(undecodable.to_string()))?;
        if matches!(before.lease, Lease::Held { .. }) {
            return Err(Failure::bad("the service lives by what its client holds open; its checks are that client's to change"));
        }
        let mut instance: Instance<'static> = before.into_owned();
        change(&mut instance);
        mapping::check_count(&instance.checks)?;
        Ok(Command::Register(Box::new(Registration {
            namespace: service.namespace.clone(),
            service: service.service.clone(),
            id: InstanceId::new(&key.id).map_err(|bad| Failure::bad(bad.to_string()))?,
            scope: key.scope.into_owned(),
            instance,
            condition: Condition::Version(entry.version),
            lease: None,
        })))
    })
    .await
}
