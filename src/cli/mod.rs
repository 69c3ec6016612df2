//! What people type: one file a verb. Parses, calls, turns the outcome into an exit code (api.md §3).

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::settings::Problem;

mod agent;
mod child;
mod config;
mod connect;
mod consul;
mod demo;
mod logging;
mod operate;
mod output;
mod read;
mod secret;
mod tls;
mod version;
mod watch;
mod write;

/// A leaderless service registry: every agent holds the whole catalog, and gossip keeps them equal.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, max_term_width = 110, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run an agent on this host.
    Agent(agent::Arguments),
    /// See it work: six agents on this machine, a death and a return, in under twenty seconds.
    Demo(demo::Arguments),
    /// What the agent says of itself.
    Status(read::Plain),
    /// The agents of this datacenter, and how they are.
    Members(read::Plain),
    /// The services that are known, with how many instances take traffic.
    Services(read::Services),
    /// The instances of a service, and why those that take no traffic do not.
    Service(read::Service),
    /// Where to connect to for a service.
    Pick(read::Pick),
    /// Register an instance; with -- COMMAND, for as long as that runs.
    Register(Box<write::Register>),
    /// Deregister an instance.
    Deregister(write::Named),
    /// Give a sign of life for an instance with a ttl.
    Heartbeat(write::Beat),
    /// Print changes of instances as they happen.
    Watch(watch::Arguments),
    /// The last changes of the picture: members, instances.
    Events(read::Plain),
    /// Take traffic away from a node or one instance.
    Drain(write::Drain),
    /// Take that back.
    Undrain(write::Undrain),
    /// Make the agent join others.
    Join(operate::Join),
    /// Make the agent leave and stop.
    Leave(operate::Leave),
    /// Make the agent read its settings again: seeds, tokens, certificates, the filter of its log.
    Reload(operate::Reload),
    /// Forget a member that is gone for good, and what it registered.
    Forget(operate::Forget),
    /// The datacenters that are known; forget one.
    Datacenters(operate::Datacenters),
    /// List, install, use and remove gossip keys.
    Keys(operate::Keys),
    /// See what an agent's settings are, check them, or print an example of all.
    Config(config::Arguments),
    /// Make a gossip key.
    Keygen(secret::Keygen),
    /// Make a token, and the lines of the settings that know it.
    Token(secret::Token),
    /// Make an authority and certificates for https:// listeners and their clients.
    Tls(tls::Arguments),
    /// Consul's command line: agent, version, members, join, leave and some more.
    Consul(consul::Arguments),
    /// Print a completion script for a shell.
    Completion(operate::Completion),
    /// Print the version.
    Version,
}

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    // Help is 0 and a wrong command line 2, by clap.
    let arguments = if consul::is_called(std::env::args_os().next().as_deref()) {
        let words = ["tidings", "consul"].into_iter().map(OsString::from).chain(std::env::args_os().skip(1));
        Arguments::parse_from(words)
    } else {
        Arguments::parse()
    };
    let outcome = match arguments.verb {
        Verb::Agent(arguments) => agent::run(&arguments),
        Verb::Config(arguments) => config::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Keygen(arguments) => secret::keygen(&arguments),
        Verb::Tls(arguments) => tls::run(&arguments),
        Verb::Token(arguments) => secret::token(&arguments),
        Verb::Status(arguments) => read::status(&arguments),
        Verb::Members(arguments) => read::members(&arguments),
        Verb::Services(arguments) => read::services(&arguments),
        Verb::Service(arguments) => read::service(&arguments),
        Verb::Pick(arguments) => read::pick(&arguments),
        Verb::Register(arguments) => write::register(&arguments),
        Verb::Deregister(arguments) => write::deregister(&arguments),
        Verb::Heartbeat(arguments) => write::heartbeat(&arguments),
        Verb::Watch(arguments) => watch::run(&arguments),
        Verb::Events(arguments) => read::events(&arguments),
        Verb::Drain(arguments) => write::drain(&arguments),
        Verb::Undrain(arguments) => write::undrain(&arguments),
        Verb::Join(arguments) => operate::join(&arguments),
        Verb::Leave(arguments) => operate::leave(&arguments),
        Verb::Reload(arguments) => operate::reload(&arguments),
        Verb::Forget(arguments) => operate::forget(&arguments),
        Verb::Datacenters(arguments) => operate::datacenters(&arguments),
        Verb::Keys(arguments) => operate::keys(&arguments),
        Verb::Consul(arguments) => consul::run(&arguments),
        Verb::Completion(arguments) => operate::completion(&arguments),
        Verb::Version => version::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tidings: {failure}");
            failure.exit.into()
        }
    }
}

/// How a command ends, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    /// Nothing, or nothing available, was found.
    NotFound = 3,
    /// No agent answers at the address that was tried.
    NotReached = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// What is printed when a command does not do what it was asked to, and the exit code with it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure { exit, message: message.to_string() }
    }

    pub fn failed(message: impl fmt::Display) -> Failure {
        Failure::new(Exit::Failed, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::new(Exit::Usage, problem)
    }
}

/// Runs what waits for the network; the command line does one thing at a time.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|why| Failure::failed(format!("the runtime cannot be started: {why}")))?.block_on(work)
}

/// Prints to standard output; a reader that has gone, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::failed(format!("the output cannot be written: {why}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
