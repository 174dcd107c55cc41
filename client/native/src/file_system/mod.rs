//! The file system as an in-process object: what the SDK and the FUSE mount share.
