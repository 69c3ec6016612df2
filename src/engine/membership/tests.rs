//! Behaviour of many memberships in virtual time.

mod formation;
mod harness;
