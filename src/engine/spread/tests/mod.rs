//! Scenarios of the spread over real catalogs and memberships in virtual time.

mod news;
mod world;
