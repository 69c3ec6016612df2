//! `tidings register | deregister | heartbeat | drain | undrain`: what people and scripts tell an agent.

use super::connect::Connection;
use super::output::cell;
use super::{Exit, Failure, child};
use crate::client::{Client, Error, instance_path, query, segment};
use crate::schema::{Check, Heartbeat, Override, Registration, Write};
use reqwest::Method;
use serde_json::Value;

/// With a command the registration is renewed while it lives, and gone soon after both died at once.
const CHILD_TTL: &str = "15s";

#[derive(Debug, clap::Args)]
pub struct Register {
    /// The service's name.
    name: String,
    /// The port it listens on.
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Its address, where that is not the agent's host.
    #[arg(long, value_name = "IP|NAME")]
    address: Option<String>,
    /// Its id [default: NAME-<node>-<port>].
    #[arg(long, value_name = "TEXT")]
    id: Option<String>,
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// May be given again.
    #[arg(long, value_name = "TEXT")]
    tag: Vec<String>,
    /// May be given again.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,
    #[arg(long, value_name = "NUMBER")]
    weight: Option<f64>,
    /// Critical when not renewed for so long, as with `tidings heartbeat` [default with a command: 15s].
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// What the agent checks: http://…, https://…, tcp://HOST:PORT, grpc://HOST:PORT[/SERVICE]; may be given again.
    #[arg(long, value_name = "URL", value_parser = check)]
    check: Vec<Check<'static>>,
    /// How often it checks.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    interval: String,
    /// Register only once the port accepts connections.
    #[arg(long, requires = "command")]
    wait: bool,
    #[command(flatten)]
    connection: Connection,
    /// Run this, registered while it lives; its exit code becomes this command's.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct Named {
    /// The service's name.
    name: String,
    /// The instance's id.
    id: String,
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct Beat {
    #[command(flatten)]
    named: Named,
    /// How it is: passing, warning, critical, starting or unknown.
    #[arg(long, value_name = "HEALTH")]
    status: Option<String>,
    /// What to say to that.
    #[arg(long, value_name = "TEXT", requires = "status")]
    message: Option<String>,
    /// The check this is about, where it is not the instance.
    #[arg(long, value_name = "ID", requires = "status")]
    check: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Drain {
    /// The node's name, or SERVICE/ID of one instance.
    what: String,
    /// Why, for those who wonder.
    #[arg(long, value_name = "TEXT", default_value = "drained by an operator")]
    reason: String,
    /// For so long; otherwise until `tidings undrain`.
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct Undrain {
    /// The node's name, or SERVICE/ID of one instance.
    what: String,
    #[command(flatten)]
    connection: Connection,
}

pub fn register(arguments: &Register) -> Result<(), Failure> {
    if arguments.port.is_none() && arguments.address.is_none() {
        return Err(Failure::new(Exit::Usage, "an instance needs --port, --address or both"));
    }
    arguments.connection.run(|client| async move {
        let id = match &arguments.id {
            Some(id) => id.clone(),
            None => default_id(&client, arguments).await?,
        };
        let registration = registration_of(arguments);
        if arguments.command.is_empty() {
            let write = client.register(&arguments.name, &id, &registration).await?;
            return say(&write, &arguments.name, &id);
        }
        let probe = arguments.wait.then(|| (arguments.address.clone().unwrap_or_else(|| "127.0.0.1".into()), arguments.port.unwrap_or(0)));
        child::run(&client, &arguments.name, &id, &registration, &arguments.command, probe).await
    })
}

pub fn deregister(arguments: &Named) -> Result<(), Failure> {
    arguments.connection.run(|client| async move {
        let write: Write = client.call(Method::DELETE, &arguments.path(""), None::<&()>).await?;
        say(&write, &arguments.name, &arguments.id)
    })
}

pub fn heartbeat(arguments: &Beat) -> Result<(), Failure> {
    let named = &arguments.named;
    named.connection.run(|client| async move {
        let beat = Heartbeat { check: arguments.check.clone(), status: arguments.status.clone(), output: arguments.message.clone() };
        let write: Write = client.call(Method::PUT, &named.path("/heartbeat"), Some(&beat)).await?;
        say(&write, &named.name, &named.id)
    })
}

pub fn drain(arguments: &Drain) -> Result<(), Failure> {
    let word = Override { enabled: false, reason: arguments.reason.clone(), expires: arguments.lasts.clone(), ..Override::default() };
    arguments.connection.run(|client| async move {
        client.call::<_, Value>(Method::PUT, &override_path(&arguments.what), Some(&word)).await?;
        super::print(&format!("{} takes no traffic\n", cell(&Value::String(arguments.what.clone()))))
    })
}

pub fn undrain(arguments: &Undrain) -> Result<(), Failure> {
    arguments.connection.run(|client| async move {
        client.call::<_, Value>(Method::DELETE, &override_path(&arguments.what), None::<&()>).await?;
        super::print(&format!("{} takes traffic again, as far as its health allows\n", cell(&Value::String(arguments.what.clone()))))
    })
}

impl Named {
    fn path(&self, behind: &str) -> String {
        let namespace: Vec<_> = self.namespace.iter().map(|namespace| ("namespace", namespace.as_str())).collect();
        format!("{}{behind}{}", instance_path(&self.name, &self.id), query(&namespace))
    }
}

fn override_path(what: &str) -> String {
    match what.split_once('/') {
        Some((service, id)) => format!("{}/override", instance_path(service, id)),
        None => format!("/api/v1/members/{}/override", segment(what)),
    }
}

fn registration_of(arguments: &Register) -> Registration {
    let has_child = !arguments.command.is_empty();
    let checks = arguments.check.iter().cloned().map(|check| Check { interval: Some(arguments.interval.clone()), ..check });
    Registration {
        namespace: arguments.namespace.clone(),
        address: arguments.address.clone(),
        port: arguments.port,
        tags: arguments.tag.clone(),
        metadata: arguments.meta.iter().map(|(key, value)| (key.clone().into(), value.clone())).collect(),
        weight: arguments.weight,
        ttl: arguments.ttl.clone().or_else(|| has_child.then(|| CHILD_TTL.to_owned())),
        checks: checks.collect(),
        ..Registration::default()
    }
}

async fn default_id(client: &Client, arguments: &Register) -> Result<String, Error> {
    let status = client.get("/api/v1/status").await?;
    let node = status["node"].as_str().unwrap_or("node");
    Ok(match arguments.port {
        Some(port) => format!("{}-{node}-{port}", arguments.name),
        None => format!("{}-{node}", arguments.name),
    })
}

fn say(write: &Write, name: &str, id: &str) -> Result<(), Failure> {
    super::print(&format!("{} {name}/{id}\n", write.result))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has to be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A check by its URL.
fn check(url: &str) -> Result<Check<'static>, String> {
    let (scheme, rest) = url.split_once("://").ok_or("it has to begin with http://, https://, tcp:// or grpc://")?;
    let rest = rest.to_owned();
    let kind = |kind: &'static str| Check { kind: kind.into(), ..Check::default() };
    match scheme {
        "http" | "https" => Ok(Check { url: Some(url.to_owned().into()), ..kind("http") }),
        "tcp" => Ok(Check { address: Some(rest.into()), ..kind("tcp") }),
        "grpc" => {
            let (address, service) = rest.split_once('/').unwrap_or((&rest, ""));
            Ok(Check { address: Some(address.to_owned().into()), service: Some(service.to_owned().into()), ..kind("grpc") })
        }
        other => Err(format!("there is no check by {other}://: http, https, tcp or grpc")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checks_url_says_its_kind() {
        assert_eq!(check("https://x/health").unwrap().kind, "http");
        assert_eq!(check("tcp://10.0.0.1:80").unwrap().address.as_deref(), Some("10.0.0.1:80"));
        let grpc = check("grpc://10.0.0.1:80/web").unwrap();
        assert_eq!((grpc.address.as_deref(), grpc.service.as_deref()), (Some("10.0.0.1:80"), Some("web")));
        assert!(check("10.0.0.1:80").is_err());
        assert!(check("ftp://x").is_err());
    }

    #[test]
    fn an_override_is_on_a_node_or_on_an_instance() {
        assert_eq!(override_path("n1"), "/api/v1/members/n1/override");
        assert_eq!(override_path("web/web-1"), "/api/v1/services/web/instances/web-1/override");
    }
}
