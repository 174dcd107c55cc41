//! A file against a vector of bytes, under any order of operations and through several handles.

use crate::world::{CHUNK, World, create, open, read, root};
use firepond_client::file_system::FileSystemOptions;
use firepond_core::wire::meta::AttributeChanges;
use proptest::prelude::*;

/// Largest offset of a write.
const SPAN: usize = 3 * CHUNK;

#[derive(Clone, Debug)]
enum Step {
    Write { handle: usize, offset: usize, len: usize, byte: u8 },
    Read { handle: usize, offset: usize, len: usize },
    Append { handle: usize, len: usize, byte: u8 },
    Truncate { size: usize },
    Flush { handle: usize },
    Sync { handle: usize },
    Reopen { handle: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offset = prop_oneof![0..SPAN, (0..3_usize).prop_map(|index| index * CHUNK)];
    let len = prop_oneof![1..200_usize, 1..2 * CHUNK, Just(CHUNK)];
    let handle = 0..3_usize;
    let step = prop_oneof![
        4 => (handle.clone(), offset.clone(), len.clone(), any::<u8>()).prop_map(
            |(handle, offset, len, byte)| Step::Write { handle, offset, len, byte }
        ),
        4 => (handle.clone(), offset.clone(), len.clone()).prop_map(
            |(handle, offset, len)| Step::Read { handle, offset, len }
        ),
        1 => (handle.clone(), 1..5000_usize, any::<u8>()).prop_map(
            |(handle, len, byte)| Step::Append { handle, len, byte }
        ),
        1 => offset.prop_map(|size| Step::Truncate { size }),
        1 => handle.clone().prop_map(|handle| Step::Flush { handle }),
        1 => handle.clone().prop_map(|handle| Step::Sync { handle }),
        1 => handle.prop_map(|handle| Step::Reopen { handle }),
    ];
    prop::collection::vec(step, 1..40)
}

fn model_write(model: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    model.resize(model.len().max(offset + bytes.len()), 0);
    model[offset..offset + bytes.len()].copy_from_slice(bytes);
}

async fn run(steps: Vec<Step>) {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let first = create(&files, "f").await;
    let mut handles = vec![first, open(&files, "f", true).await, open(&files, "f", true).await];
    let mut model: Vec<u8> = Vec::new();
    for step in steps {
        match step {
            Step::Write { handle, offset, len, byte } => {
                let bytes = vec![byte; len];
                handles[handle].write_slice(offset as u64, &bytes).await.expect("takes in");
                model_write(&mut model, offset, &bytes);
            }
            Step::Read { handle, offset, len } => {
                let end = model.len().min(offset + len);
                let expected = &model[offset.min(end)..end];
                assert_eq!(read(&handles[handle], offset as u64, len).await, expected);
            }
            Step::Append { handle, len, byte } => {
                let at = handles[handle].append_slice(&vec![byte; len]).await.expect("appends");
                assert_eq!(at, model.len() as u64);
                model_write(&mut model, at as usize, &vec![byte; len]);
            }
            Step::Truncate { size } => {
                let changes =
                    AttributeChanges { size_bytes: Some(size as u64), ..Default::default() };
                let inode = handles[0].inode();
                files.set_attributes(&root(), inode, changes).await.expect("truncates");
                model.resize(size, 0);
            }
            Step::Flush { handle } => handles[handle].flush().await.expect("flushes"),
            Step::Sync { handle } => handles[handle].sync().await.expect("syncs"),
            Step::Reopen { handle } => {
                handles[handle].close().await.expect("closes");
                handles[handle] = open(&files, "f", true).await;
            }
        }
        assert_eq!(handles[0].attributes().size_bytes, model.len() as u64);
    }
    for handle in handles {
        handle.close().await.expect("closes");
    }
    let other = world.client(FileSystemOptions::default());
    let file = open(&other, "f", false).await;
    assert_eq!(file.attributes().size_bytes, model.len() as u64);
    assert_eq!(read(&file, 0, model.len() + 1).await, model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Goal: reads, sizes and the final contents are those of a vector. Method: random steps
    /// through three handles of one client; then another client reads. Oracle: the vector.
    #[test]
    fn a_file_is_a_vector(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("runtime").block_on(run(steps));
    }
}
