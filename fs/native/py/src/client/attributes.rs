//! What Python sees of an inode: a plain tuple, which `client/attributes.py` names.

use super::call::IntoObject;
use firepond_client::file_system::FileSystemStat;
use firepond_core::wire::meta::{Attributes, DirectoryEntry, InodeKind};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Inode, kind, mode, uid, gid, links, bytes, access, change of contents, change of attributes (all
/// nanoseconds), bytes of a chunk, stripe.
type Row = ((u64, u8, u32, u32, u32, u32, u64), (u64, u64, u64, u32, u32));

/// 0: file, 1: directory, 2: symbolic link.
fn kind_number(kind: InodeKind) -> u8 {
    match kind {
        InodeKind::File => 0,
        InodeKind::Directory => 1,
        InodeKind::Symlink => 2,
    }
}

/// The tuple of an inode.
pub(super) fn row(attributes: &Attributes) -> Row {
    let one = attributes;
    let layout = one.layout.map_or((0, 0), |layout| (layout.chunk_size_bytes, layout.stripe_count));
    (
        (
            one.inode.0,
            kind_number(one.kind),
            one.mode,
            one.uid,
            one.gid,
            one.link_count,
            one.size_bytes,
        ),
        (one.accessed_ns, one.modified_ns, one.changed_ns, layout.0, layout.1),
    )
}

impl IntoObject for Attributes {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(row(&self).into_pyobject(py)?.into_any().unbind())
    }
}

impl IntoObject for (Vec<DirectoryEntry>, bool) {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let rows: Vec<(Bound<'_, PyBytes>, u64, u8, Option<Row>)> = self
            .0
            .iter()
            .map(|entry| {
                let name = PyBytes::new(py, &entry.name);
                let attributes = entry.attributes.as_ref().map(row);
                (name, entry.inode.0, kind_number(entry.kind), attributes)
            })
            .collect();
        Ok((rows, self.1).into_pyobject(py)?.into_any().unbind())
    }
}

impl IntoObject for FileSystemStat {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let row = (self.total_bytes, self.free_bytes, self.inode_count);
        Ok(row.into_pyobject(py)?.into_any().unbind())
    }
}

/// A path or name, as bytes.
pub(super) struct PathBytes(pub(super) Vec<u8>);

impl IntoObject for PathBytes {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(PyBytes::new(py, &self.0).into_any().unbind())
    }
}
