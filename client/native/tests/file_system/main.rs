//! The file client against the real metadata service and a storage node in memory.

mod faults;
mod model;
mod reading;
mod storage;
mod world;
mod writing;
