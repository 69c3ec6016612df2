//! `tidings version`

use super::Failure;

pub fn run() -> Result<(), Failure> {
    super::print(concat!("tidings ", env!("CARGO_PKG_VERSION"), "\n"))
}
