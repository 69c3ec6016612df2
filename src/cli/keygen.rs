//! `tidings keygen`: a gossip key for `--encrypt`.

use super::Failure;

pub fn run() -> Result<(), Failure> {
    let key = crate::agent::new_key().map_err(|why| Failure::failed(format!("the system gives no random numbers: {why}")))?;
    super::print(&format!("{key}\n"))
}
