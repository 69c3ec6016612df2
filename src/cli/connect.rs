//! Which agent a verb speaks to, and what it means when that fails.

use super::{Exit, Failure};
use crate::client::{Client, DEFAULT_ADDRESS, Error, Trust};
use std::future::Future;
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The agent's HTTP address: host:port, a URL or unix:PATH.
    #[arg(long, env = "TIDINGS_HTTP_ADDR", value_name = "ADDR", default_value = DEFAULT_ADDRESS, help_heading = "Connection")]
    http_addr: String,
    /// The token to show the agent, or @FILE with it in a file: command lines are seen by others.
    #[arg(long, env = "TIDINGS_TOKEN", value_name = "TOKEN|@FILE", hide_env_values = true, help_heading = "Connection")]
    token: Option<String>,
    /// The authority that the agent's certificate must come from, at https:// [default: those of the system].
    #[arg(long, env = "TIDINGS_CA", value_name = "FILE", help_heading = "Connection")]
    ca: Option<PathBuf>,
    /// The certificate to show an agent that asks for one.
    #[arg(long, env = "TIDINGS_CLIENT_CERT", value_name = "FILE", requires = "client_key", help_heading = "Connection")]
    client_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, env = "TIDINGS_CLIENT_KEY", value_name = "FILE", requires = "client_cert", help_heading = "Connection")]
    client_key: Option<PathBuf>,
}

impl Connection {
    /// Runs `work` with a client of the agent.
    pub fn run<F, T>(&self, work: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let client = Client::with_trust(&self.http_addr, self.token()?, &self.trust()?)?;
        super::block_on(work(client))
    }
}

impl Connection {
    fn trust(&self) -> Result<Trust, Failure> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|why| Failure::new(Exit::Usage, format!("{} cannot be read: {why}", path.display())))
        };
        let ca = self.ca.as_ref().map(read).transpose()?;
        let pair = self.client_cert.as_ref().zip(self.client_key.as_ref());
        let identity = pair.map(|(cert, key)| Ok::<_, Failure>([read(cert)?, b"\n".to_vec(), read(key)?].concat())).transpose()?;
        Ok(Trust { ca, identity })
    }

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
            Error::Address { .. } | Error::Trust { .. } => Failure::new(Exit::Usage, error),
            Error::NotReached { address, .. } if address.starts_with("https://") => Failure::new(
                Exit::NotReached,
                format!("{error}\n  where its certificate comes from an authority of your own: --ca FILE, TIDINGS_CA"),
            ),
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
