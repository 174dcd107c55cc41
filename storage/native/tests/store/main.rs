//! Tests of the chunk store through its public face.

mod basics;
mod crash;
mod fixture;
mod kill;
mod limits;
mod model;
mod scale;
mod space;
