//! `tidings join | leave | reload | forget | keys | completion`: what operators do with agents.

use super::connect::Connection;
use super::output::{Output, cell};
use super::read::{self, Plain};
use super::{Arguments as CommandLine, Exit, Failure};
use crate::client::segment;
use crate::schema;
use clap::CommandFactory as _;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Read as _;

#[derive(Debug, clap::Args)]
pub struct Join {
    /// The gossip address of an agent; one that lives is enough. With --wan, where a gateway of another datacenter listens.
    #[arg(required = true, value_name = "ADDR:PORT")]
    addresses: Vec<String>,
    /// Make a gateway announce itself to those of other datacenters.
    #[arg(long)]
    wan: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct Leave {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct Reload {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct Forget {
    /// The name or the node id of a member that is not alive.
    node: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Datacenters {
    #[command(subcommand)]
    verb: Option<DatacenterVerb>,
    #[command(flatten)]
    list: Plain,
}

#[derive(Debug, clap::Subcommand)]
enum DatacenterVerb {
    /// Make every agent here drop what it knows of a datacenter that nobody hears any more.
    Forget {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(subcommand)]
    verb: Option<KeyVerb>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Subcommand)]
enum KeyVerb {
    /// Accept gossip sealed with one more key. Do this on every host first.
    Install {
        /// A file with the key; - for standard input. Command lines are seen by others.
        #[arg(value_name = "FILE")]
        file: String,
    },
    /// Seal with an installed key. Do this on every host second.
    Use {
        /// As `tidings keys` lists it.
        id: String,
    },
    /// Accept an installed key no longer. Do this on every host last.
    Remove {
        /// As `tidings keys` lists it.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct Completion {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub fn join(arguments: &Join) -> Result<(), Failure> {
    arguments.connection.run(|client| async move {
        client
            .call::<_, Value>(Method::POST, "/api/v1/join", Some(&json!({"addresses": arguments.addresses, "wan": arguments.wan})))
            .await?;
        super::print(&format!("announced; see `tidings {}`\n", if arguments.wan { "datacenters" } else { "members" }))
    })
}

pub fn leave(arguments: &Leave) -> Result<(), Failure> {
    arguments.connection.run(|client| async move {
        client.call::<_, Value>(Method::POST, "/api/v1/leave", None::<&()>).await?;
        super::print("the agent leaves and stops; its registrations return with it\n")
    })
}

pub fn reload(arguments: &Reload) -> Result<(), Failure> {
    arguments.connection.run(|client| async move {
        let done: schema::Reloaded = client.call(Method::POST, "/api/v1/reload", None::<&()>).await?;
        let list = |what: &[String]| if what.is_empty() { "nothing".to_owned() } else { what.join(", ") };
        let mut text = format!("changed: {}\n", list(&done.changed));
        if !done.needs_restart.is_empty() {
            text.push_str(&format!("changed, and counts after a restart only: {}\n", list(&done.needs_restart)));
        }
        super::print(&text)
    })
}

pub fn forget(arguments: &Forget) -> Result<(), Failure> {
    arguments.connection.run(|client| async move {
        client.call::<_, Value>(Method::DELETE, &format!("/api/v1/members/{}", segment(&arguments.node)), None::<&()>).await?;
        super::print(&format!("{} and what it registered is forgotten\n", arguments.node))
    })
}

pub fn datacenters(arguments: &Datacenters) -> Result<(), Failure> {
    let Some(DatacenterVerb::Forget { name, connection }) = &arguments.verb else { return read::datacenters(&arguments.list) };
    connection.run(|client| async move {
        client.call::<_, Value>(Method::DELETE, &format!("/api/v1/datacenters/{}", segment(name)), None::<&()>).await?;
        super::print(&format!("what was known of {name} is forgotten\n"))
    })
}

pub fn keys(arguments: &Keys) -> Result<(), Failure> {
    let (method, path, body) = match &arguments.verb {
        None => (Method::GET, "/api/v1/keys".to_owned(), None),
        Some(KeyVerb::Install { file }) => (Method::POST, "/api/v1/keys".to_owned(), Some(json!({"key": read_key(file)?}))),
        Some(KeyVerb::Use { id }) => (Method::POST, format!("/api/v1/keys/{}", segment(id)), None),
        Some(KeyVerb::Remove { id }) => (Method::DELETE, format!("/api/v1/keys/{}", segment(id)), None),
    };
    arguments.connection.run(|client| async move {
        let answer: Value = client.call(method, &path, body.as_ref()).await?;
        arguments.output.list(&answer, "keys", &[("KEY", |key| cell(&key["id"])), ("IN USE", |key| cell(&key["in_use"]))])
    })
}

pub fn completion(arguments: &Completion) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut CommandLine::command(), "tidings", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}

fn read_key(file: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        file => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|why| Failure::new(Exit::Usage, format!("{file} cannot be read: {why}")))?;
    Ok(text.trim().to_owned())
}
