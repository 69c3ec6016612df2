//! Behaviour of many memberships in virtual time.

mod cuts;
mod detection;
mod distances;
mod figures;
mod formation;
mod harness;
mod limits;
mod rejoin;
