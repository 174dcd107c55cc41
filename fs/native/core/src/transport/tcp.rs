//! TCP: the transport that works everywhere.
