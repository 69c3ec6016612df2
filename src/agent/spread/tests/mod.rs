//! Scenarios of the spread over real catalogs and memberships in virtual time.

mod figures;
mod join;
mod repair;
mod spread;
mod world;
