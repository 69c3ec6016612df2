//! Scenarios of the spread over real catalogs and memberships in virtual time.

mod join;
mod news;
mod repair;
mod world;
