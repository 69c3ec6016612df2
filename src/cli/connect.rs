//! Which agent a verb speaks to, and what it means when that fails.

use super::{Exit, Failure};
use crate::client::{Client, DEFAULT_ADDRESS, Error};
use std::future::Future;

#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The agent's HTTP address: host:port, a URL or unix:PATH.
    #[arg(long, env = "TIDINGS_HTTP_ADDR", value_name = "ADDR", default_value = DEFAULT_ADDRESS, help_heading = "Connection")]
    http_addr: String,
    /// The token to show the agent, or @FILE with it in a file: command lines are seen by others.
    #[arg(long, env = "TIDINGS_TOKEN", value_name = "TOKEN|@FILE", hide_env_values = true, help_heading = "Connection")]
    token: Option<String>,
}

impl Connection {
    /// Runs `work` with a client of the agent.
    pub fn run<F, T>(&self, work: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let client = Client::new(&self.http_addr, self.token()?)?;
        super::block_on(work(client))
    }
}

impl Connection {
    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = self.token.as_deref().and_then(|token| token.strip_prefix('@')) else { return Ok(self.token.clone()) };
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|why| Failure::new(Exit::Usage, format!("the token's file {path} cannot be read: {why}")))?;
        Ok(Some(text.trim().to_owned()))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match &error {
            Error::Address { .. } => Failure::new(Exit::Usage, error),
            Error::NotReached { .. } => Failure::new(
                Exit::NotReached,
                format!("{error}\n  start one with: tidings agent --dev\n  or name another: --http-addr HOST:PORT, TIDINGS_HTTP_ADDR"),
            ),
            Error::Refused(problem) if problem.status == 401 => {
                Failure::failed(format!("{error}\n  show one with: TIDINGS_TOKEN=@FILE, or --token @FILE with the token in a file"))
            }
            Error::Refused(problem) if problem.status == 404 => Failure::new(Exit::NotFound, error),
            Error::Refused(_) | Error::Unreadable { .. } => Failure::failed(error),
        }
    }
}
