//! What a mount agrees on with the kernel at its start.

use super::options::MountOptions;
use fuser::{InitFlags, KernelConfig};

/// The largest write request. The kernel's own limit for one request is the same by default.
const WRITE_MAX_BYTES: u32 = 1 << 20;
/// What the mount asks the kernel for; what an older kernel lacks, it does without.
const CAPABILITIES: [InitFlags; 8] = [
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
];
/// Answers the kernel's offer.
pub(super) fn configure(config: &mut KernelConfig, options: &MountOptions) {
    for capability in CAPABILITIES {
        if config.add_capabilities(capability).is_err() {
            tracing::info!(?capability, "the kernel lacks a FUSE capability");
        }
    }
    // Out-of-range values are answered with the nearest one that works: then that one is taken.
    let _ = config.set_max_write(WRITE_MAX_BYTES);
    if let Err(largest) = config.set_max_readahead(WRITE_MAX_BYTES) {
        let _ = config.set_max_readahead(largest);
    }
    let _ = config.set_max_background(options.background_max_count);
}
