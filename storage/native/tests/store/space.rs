//! How much disk chunks take.

use crate::fixture::*;

async fn fill(lens: &[usize], rounds: u64) -> (u64, u64) {
    let machine = Machine::new(1, 1 << 30);
    let store = machine.open().expect("opens");
    for round in 1..=rounds {
        for (number, len) in lens.iter().enumerate() {
            let data = vec![number as u8; *len];
            store.apply(TARGET, write(number as u32, round, 0, &data)).await.expect("write");
        }
    }
    let payload: usize = lens.iter().sum();
    let name = machine_file(&machine);
    let end = machine.disk.contents(&name).chunks(1 << 20).rposition(|s| s.iter().any(|b| *b != 0));
    let file_bytes = (end.map_or(0, |segment| segment as u64 + 1)) << 20;
    assert_eq!(file_bytes % (1 << 20), 0);
    (store.space(TARGET).used_bytes * 100 / payload as u64, file_bytes * 100 / payload as u64)
}

fn machine_file(machine: &Machine) -> std::path::PathBuf {
    use firepond_core::sys::disk::Disk;
    machine.disk.list().expect("files").remove(0)
}

/// Goal: full chunks take at most 10 % more than their bytes, in pages and in the file.
/// Method: chunks of 1 MiB, written and replaced once. Oracle: percentages.
#[tokio::test]
async fn full_chunks_take_their_size() {
    let (pages, file) = fill(&[1 << 20; 40], 2).await;
    assert!(pages <= 110, "pages are {pages} %");
    assert!(file <= 110, "the file is {file} %");
}

/// Goal: values of 4 to 64 KiB take at most 30 % more. Method: a mix of odd lengths, replaced
/// twice.
/// Oracle: percentages.
#[tokio::test]
async fn small_values_are_packed() {
    let lens: Vec<usize> = (0..600).map(|number| 4096 + number * 7919 % 61_440).collect();
    let (pages, file) = fill(&lens, 3).await;
    assert!(pages <= 130, "pages are {pages} %");
    assert!(file <= 130, "the file is {file} %");
}

/// Goal: a 4 KiB overwrite of a 1 MiB chunk writes the page and a record in the log, later the page
/// once more in its place, and nothing else, however many there were. Method: random aligned
/// overwrites, over many checkpoints of the log. Oracle: bytes that reached the disk.
#[tokio::test]
async fn small_overwrites_write_little() {
    const COUNT: u64 = 500;
    let machine = Machine::new(1, 1 << 30);
    let store = machine.open().expect("opens");
    store.apply(TARGET, write(1, 1, 0, &bytes(1, 1 << 20))).await.expect("write");
    let before = machine.disk.bytes_written();
    for version in 2..2 + COUNT {
        let offset = ((version * 2_654_435_761) >> 8) as u32 % 256 * 4096;
        store.apply(TARGET, write(1, version, offset, &bytes(7, 4096))).await.expect("write");
    }
    let average = (machine.disk.bytes_written() - before) / COUNT;
    assert!(average <= 14 << 10, "overwrites write {average} bytes on average");
}

/// Goal: a page that is overwritten before the log is checkpointed is written in its place once.
/// Method: one page again and again. Oracle: bytes that reached the disk: those of the log.
#[tokio::test]
async fn overwriting_one_page_writes_the_log_alone() {
    const COUNT: u64 = 500;
    let machine = Machine::new(1, 1 << 30);
    let store = machine.open().expect("opens");
    store.apply(TARGET, write(1, 1, 0, &bytes(1, 4096))).await.expect("write");
    let before = machine.disk.bytes_written();
    for version in 2..2 + COUNT {
        store.apply(TARGET, write(1, version, 0, &bytes(7, 4096))).await.expect("write");
    }
    let average = (machine.disk.bytes_written() - before) / COUNT;
    assert!(average <= 9 << 10, "overwrites write {average} bytes on average");
}
