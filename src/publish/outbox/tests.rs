//! Tests on real files. A full disk is simulated by SQLite's page limit.

use super::*;
use crate::{
    config::Durability,
    wire::{history::EventQuery, messages},
};
use std::{io::Write, path::Path};

pub fn settings(file: Option<&Path>) -> config::Outbox {
    config::Outbox {
        file: file.map(Path::to_path_buf),
        durability: Durability::Grouped,
        max_messages: 1000,
        max_bytes: 64 << 20,
        max_age: Duration::from_secs(3600),
        replay: Duration::from_secs(5),
        durable_kinds: Vec::new(),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn accept(outbox: &mut Outbox, camera: &str, seconds: i64, payload: &[u8]) -> i64 {
    let seq = outbox.next_seq(camera);
    outbox.accept(DurableMessage {
        camera: camera.into(),
        seq,
        at_ms: at(seconds).as_millisecond(),
        topic: format!("t/{camera}"),
        payload: payload.into(),
    })
}

fn commit(outbox: &mut Outbox, seconds: u64) {
    outbox.commit(Duration::from_secs(seconds), at(seconds as i64), 0);
}

fn seqs(rows: &[Row]) -> Vec<(String, u64)> {
    rows.iter().map(|row| (row.message.camera.clone(), row.message.seq)).collect()
}

/// Ends like a killed process: without [`Outbox::close`].
fn kill(outbox: Outbox) {
    drop(outbox);
}

#[test]
fn committed_rows_survive_the_process_and_sequence_numbers_continue() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep/outbox.db");
    let opened = Outbox::open(settings(Some(&file)), at(0));
    assert!(opened.notes.is_empty());
    let mut outbox = opened.outbox;
    let stream = outbox.stream().to_string();
    for camera in ["yard", "door", "yard"] {
        accept(&mut outbox, camera, 0, b"x");
    }
    assert!(outbox.after(0, 10).is_empty(), "not before the commit");
    commit(&mut outbox, 0);
    assert_eq!(seqs(&outbox.after(0, 10)), [("yard".into(), 1), ("door".into(), 1), ("yard".into(), 2)]);
    kill(outbox);

    let opened = Outbox::open(settings(Some(&file)), at(1));
    let mut outbox = opened.outbox;
    assert_eq!((outbox.stream(), outbox.waiting()), (&*stream, 3));
    assert_eq!(outbox.next_seq("yard"), 3);
    outbox.acknowledged(2);
    assert_eq!(seqs(&outbox.after(outbox.cursor(), 10)), [("yard".into(), 2)]);
    outbox.close(Duration::from_secs(1), at(1));

    let opened = Outbox::open(settings(Some(&file)), at(2));
    assert_eq!((opened.resume_row, opened.outbox.cursor(), opened.outbox.waiting()), (2, 2, 1));
}

#[test]
fn a_power_cut_begins_a_new_stream() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
    accept(&mut outbox, "yard", 0, b"x");
    commit(&mut outbox, 0);
    let stream = outbox.stream().to_string();
    outbox.db.execute("UPDATE meta SET boot = 'another boot'", []).unwrap();
    kill(outbox);
    let mut outbox = Outbox::open(settings(Some(&file)), at(1)).outbox;
    assert_ne!(outbox.stream(), stream);
    assert_eq!((outbox.next_seq("yard"), outbox.waiting()), (2, 1));
}

#[test]
fn a_killed_process_resumes_at_the_replay_row() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
    for second in 0..20 {
        accept(&mut outbox, "yard", second, b"x");
    }
    commit(&mut outbox, 20);
    outbox.acknowledged(18);
    for second in [21, 22, 23] {
        outbox.commit(Duration::from_secs(second), at(second as i64), 12);
    }
    kill(outbox);
    let opened = Outbox::open(settings(Some(&file)), at(24));
    assert_eq!((opened.resume_row, opened.outbox.cursor()), (12, 18));
    // Killed again before anything was written: the replay row stays.
    kill(opened.outbox);
    let opened = Outbox::open(settings(Some(&file)), at(25));
    assert_eq!(opened.resume_row, 12);
    opened.outbox.close(Duration::from_secs(25), at(25));
    assert_eq!(Outbox::open(settings(Some(&file)), at(26)).resume_row, 18);
}

#[test]
fn nothing_is_sent_before_rows_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
    accept(&mut outbox, "yard", 0, b"x");
    commit(&mut outbox, 0);
    let stream = outbox.stream().to_string();
    // Simulates a disk that does not respond.
    outbox.db.execute_batch("ALTER TABLE message RENAME TO away").unwrap();
    assert!(outbox.after(0, 10).is_empty());
    let held = accept(&mut outbox, "yard", 1, b"held");
    for second in 1..30 {
        commit(&mut outbox, second);
        assert!(outbox.after(0, 10).is_empty(), "{second}");
    }
    assert_eq!(outbox.stream(), stream);
    outbox.db.execute_batch("ALTER TABLE away RENAME TO message").unwrap();
    commit(&mut outbox, 30);
    commit(&mut outbox, 32);
    assert_eq!(outbox.after(0, 10).len(), 2, "the file is readable again");
    outbox.db.execute_batch("ALTER TABLE message RENAME TO away").unwrap();
    for second in 40..75 {
        outbox.after(0, 10);
        commit(&mut outbox, second);
    }
    assert_ne!(outbox.stream(), stream, "the file was set aside");
    assert_eq!(outbox.waiting(), 0, "row {held} was in the file that was set aside");
}

#[test]
fn a_damaged_row_sets_the_file_aside() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
    accept(&mut outbox, "yard", 0, b"x");
    commit(&mut outbox, 0);
    outbox.db.execute("UPDATE message SET topic = x'ff00', payload = 7", []).unwrap();
    assert!(outbox.after(0, 10).is_empty());
    commit(&mut outbox, 1);
    assert!(
        std::fs::read_dir(folder.path())
            .unwrap()
            .flatten()
            .any(|entry| { entry.file_name().to_string_lossy().contains(".bad-") })
    );
}

#[test]
fn history_is_deleted_first_and_undelivered_messages_become_a_gap_per_camera() {
    let mut outbox = Outbox::open(settings(None), at(0)).outbox;
    for number in 0..1500 {
        accept(&mut outbox, if number % 3 == 0 { "door" } else { "yard" }, number, b"x");
    }
    outbox.acknowledged(300);
    commit(&mut outbox, 1500);
    assert_eq!((outbox.waiting(), outbox.lost()), (1000, 200));
    let gaps = outbox.gaps();
    let counts: Vec<(&str, u64)> = gaps.iter().map(|gap| (gap.camera.as_str(), gap.count)).collect();
    assert_eq!(counts, [("door", 67), ("yard", 133)]);
    let door = &gaps[0];
    assert_eq!((door.first_seq, door.last_seq), (101, 167));
    assert_eq!(seqs(&outbox.after(outbox.cursor(), 1)), [("yard".into(), 334)]);
    outbox.gap_acknowledged(door);
    assert_eq!(outbox.gaps().len(), 1);
}

#[test]
fn a_gap_that_grew_since_its_report_is_reported_again() {
    let mut outbox = Outbox::open(settings(None), at(0)).outbox;
    let fill = |outbox: &mut Outbox, from: i64, to: i64| {
        for second in from..to {
            accept(outbox, "yard", second, b"x");
        }
        commit(outbox, to as u64);
    };
    fill(&mut outbox, 0, 1100);
    let reported = outbox.gaps();
    fill(&mut outbox, 1100, 1200);
    outbox.gap_acknowledged(&reported[0]);
    let grown = outbox.gaps();
    assert_eq!((grown[0].first_seq, grown[0].last_seq, grown[0].count), (1, 200, 200));
}

#[test]
fn rows_beyond_max_age_and_max_bytes_are_deleted() {
    let mut outbox = Outbox::open(settings(None), at(0)).outbox;
    for second in 0..10 {
        accept(&mut outbox, "yard", second, b"x");
    }
    commit(&mut outbox, 10);
    commit(&mut outbox, 3605);
    assert_eq!(seqs(&outbox.after(0, 100)).first(), Some(&("yard".into(), 6)));

    let mut small = config::Outbox { max_bytes: 1 << 20, ..settings(None) };
    small.max_messages = 1_000_000;
    let mut outbox = Outbox::open(small, at(0)).outbox;
    for second in 0..400 {
        accept(&mut outbox, "yard", second, &[0; 5000]);
        commit(&mut outbox, second as u64);
    }
    let left = outbox.after(0, 1000).len();
    assert!((150..230).contains(&left), "{left} rows of 5 kB in 1 MiB");
    assert_eq!(outbox.lost() as usize + left, 400);
}

#[test]
fn an_unusable_file_is_set_aside_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    let mut outbox = Outbox::open(settings(Some(&whole)), at(0)).outbox;
    for second in 0..200 {
        accept(&mut outbox, "yard", second, &[7; 500]);
    }
    outbox.close(Duration::ZERO, at(0));
    let bytes = std::fs::read(&whole).unwrap();
    let damaged = |damage: fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        damage(&mut bytes);
        bytes
    };
    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    for (name, contents) in [
        ("text", b"this is not a database, whatever its name says".to_vec()),
        ("short", damaged(|bytes| bytes.truncate(5000))),
        ("corrupt", damaged(|bytes| bytes[4000..60_000].fill(0xa5))),
        ("foreign", std::fs::read(&foreign).unwrap()),
        ("cursor", {
            let file = folder.path().join("cursor.db");
            std::fs::write(&file, &bytes).unwrap();
            Connection::open(&file).unwrap().execute("UPDATE meta SET cursor = 1000000", []).unwrap();
            std::fs::read(&file).unwrap()
        }),
        ("newer", damaged(|bytes| bytes[60..64].copy_from_slice(&9i32.to_be_bytes()))),
    ] {
        let file = folder.path().join(format!("{name}/outbox.db"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &contents).unwrap();
        let opened = Outbox::open(settings(Some(&file)), at(0));
        assert_eq!(opened.notes.len(), 1, "{name}: {:?}", opened.notes);
        assert!(opened.notes[0].contains(".bad-19700112T134640"), "{:?}", opened.notes);
        let aside = file.with_file_name("outbox.db.bad-19700112T134640");
        assert_eq!(std::fs::read(aside).unwrap(), contents, "{name}");
        let mut outbox = opened.outbox;
        accept(&mut outbox, "yard", 0, b"x");
        commit(&mut outbox, 0);
        assert_eq!(seqs(&outbox.after(0, 10)), [("yard".into(), 1)], "{name}");
        assert!(file.exists(), "{name}: the new one is on disk");
    }
    // An empty file is a new outbox.
    let empty = folder.path().join("empty.db");
    std::fs::write(&empty, b"").unwrap();
    assert!(Outbox::open(settings(Some(&empty)), at(0)).notes.is_empty());
}

#[test]
fn a_file_that_becomes_corrupt_in_use_is_replaced_and_rows_keep_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
    for second in 0..50 {
        accept(&mut outbox, "yard", second, &[7; 500]);
    }
    commit(&mut outbox, 50);
    let stream = outbox.stream().to_string();
    let held = accept(&mut outbox, "yard", 51, b"held");
    outbox.read_error = Some(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(11), None));
    commit(&mut outbox, 51);
    assert_ne!(outbox.stream(), stream);
    // An acknowledgement of rows that were sent from the old file.
    outbox.acknowledged(40);
    commit(&mut outbox, 52);
    let rows = outbox.after(40, 10);
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [held]);
    assert_eq!(outbox.waiting(), 1);
}

#[test]
fn a_history_that_becomes_corrupt_is_replaced_once_nothing_waits_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
    let event = messages::example_event("019dbecc-3a6d-7a31-b1c7-4d5a8e5b2f10", messages::EventType::End);
    let payload = serde_json::to_vec(&event).unwrap();
    let mut last = 0;
    for second in 0..50 {
        let seq = outbox.next_seq("yard");
        last = outbox.accept(DurableMessage {
            camera: "yard".into(),
            seq,
            at_ms: at(second).as_millisecond(),
            topic: "camfire/porch/yard/events".into(),
            payload: payload.as_slice().into(),
        });
    }
    commit(&mut outbox, 50);
    let query = EventQuery { limit: 10, ..EventQuery::default() };
    assert_eq!(outbox.events(&query).unwrap().0.len(), 1);
    // The file is damaged under the open outbox, which has nothing of it in memory.
    outbox.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    outbox.db.execute_batch("PRAGMA shrink_memory").unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(&bytes).unwrap();
    let stream = outbox.stream().to_string();
    assert!(outbox.events(&query).unwrap_err().contains("malformed"));
    outbox.acknowledged(last);
    assert!(outbox.events(&query).is_err());
    commit(&mut outbox, 51);
    assert_ne!(outbox.stream(), stream, "a new file");
    assert_eq!(outbox.events(&query).unwrap().0.len(), 0);
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().any(|name| name.to_string_lossy().starts_with("outbox.db.bad-")));
}

#[test]
fn a_file_that_another_process_uses_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    let mut first = Outbox::open(settings(Some(&file)), at(0)).outbox;
    accept(&mut first, "yard", 0, b"x");
    commit(&mut first, 0);
    let second = Outbox::open(settings(Some(&file)), at(0));
    assert!(second.notes[0].contains("another process uses it"), "{:?}", second.notes);
    assert_eq!(second.outbox.file_bytes(), 0, "in memory");
    assert_eq!(first.after(0, 10).len(), 1);
}

#[test]
fn a_full_disk_deletes_the_oldest_rows_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
    // SQLite reports a full disk at this limit.
    outbox.db.pragma_update(None, "max_page_count", 60).unwrap();
    for second in 0..400 {
        accept(&mut outbox, "yard", second, &[0; 900]);
        commit(&mut outbox, 2 * second as u64);
    }
    // Held rows are written as soon as there is space.
    for second in 800..804 {
        commit(&mut outbox, second);
    }
    assert!(outbox.lost() > 200, "{}", outbox.lost());
    let rows = outbox.after(outbox.cursor(), 1000);
    assert_eq!(rows.last().unwrap().message.seq, 400, "the newest are kept");
    let gap = &outbox.gaps()[0];
    let first_kept = rows[0].message.seq;
    assert_eq!((gap.first_seq, gap.last_seq, gap.count), (1, first_kept - 1, first_kept - 1));
    // Once there is space for a reserve, the file grows again.
    let lost = outbox.lost();
    outbox.ensure_reserve(Duration::from_secs(1000));
    for second in 1000..1100 {
        accept(&mut outbox, "yard", second, &[0; 900]);
        commit(&mut outbox, 2 * second as u64);
    }
    assert_eq!(outbox.lost(), lost);
    assert_eq!(outbox.after(0, 1).first().map(|row| row.message.seq), Some(first_kept));
}

#[test]
fn history_is_returned_in_parts() {
    let mut outbox = Outbox::open(settings(None), at(0)).outbox;
    for second in 0..9 {
        accept(&mut outbox, if second % 3 == 0 { "door" } else { "yard" }, second, b"x");
    }
    commit(&mut outbox, 9);
    outbox.acknowledged(9);
    let part = outbox.history("yard", 2, 3).unwrap();
    assert_eq!(part.rows.iter().map(|row| row.message.seq).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!((part.more, part.first_seq, part.last_seq), (true, Some(1), 6));
    let rest = outbox.history("yard", 5, 3).unwrap();
    assert_eq!((rest.rows.len(), rest.more), (1, false));
    assert!(outbox.history("nobody", 0, 3).unwrap().rows.is_empty());
    assert!(outbox.history("yard", u64::MAX, 3).unwrap().rows.is_empty());
}

#[test]
fn a_file_of_version_2_is_converted() {
    const VERSION_2: &str = "
        CREATE TABLE message (
            row INTEGER PRIMARY KEY, camera TEXT NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,
            topic TEXT NOT NULL, retained INTEGER NOT NULL, payload BLOB NOT NULL);
        CREATE TABLE gap (
            camera TEXT PRIMARY KEY, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, count INTEGER NOT NULL,
            from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE memory (topic TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE meta (
            only INTEGER PRIMARY KEY CHECK (only = 0), stream TEXT NOT NULL, cursor INTEGER NOT NULL,
            replay_row INTEGER NOT NULL, clean INTEGER NOT NULL, next_row INTEGER NOT NULL, numbers TEXT NOT NULL,
            boot TEXT NOT NULL);
        INSERT INTO meta VALUES (0, '00112233', 0, 0, 1, 5, '{\"yard\":3,\"frigate/events\":1}', '');
        INSERT INTO message VALUES
            (1, 'yard', 1, 1000000000, 't/yard/events', 0, x'7b7d'), (2, 'yard', 2, 1000000000, 't/yard/status', 1, x'7b7d'),
            (3, 'frigate/events', 1, 1000000000, 'frigate/events', 0, x'7b7d'),
            (4, 'yard', 3, 1000000000, 't/yard/events', 0, x'7b7d');
        PRAGMA application_id = 1667329382;
        PRAGMA user_version = 2;";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    Connection::open(&file).unwrap().execute_batch(VERSION_2).unwrap();
    for _ in 0..2 {
        let opened = Outbox::open(settings(Some(&file)), at(0));
        assert_eq!(opened.notes, [""; 0]);
        let mut outbox = opened.outbox;
        assert_eq!(outbox.stream(), "00112233");
        assert_eq!(seqs(&outbox.after(0, 10)), [("yard".into(), 1), ("yard".into(), 3)]);
        outbox.close(Duration::ZERO, at(0));
    }
}

#[test]
fn an_outbox_moves_to_another_file_with_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new/outbox.db"));
    for first in [Some(old.as_path()), None] {
        let mut outbox = Outbox::open(settings(first), at(0)).outbox;
        let stream = outbox.stream().to_string();
        for camera in ["yard", "door", "yard"] {
            accept(&mut outbox, camera, 0, b"x");
        }
        commit(&mut outbox, 0);
        outbox.acknowledged(1);
        // Not committed yet.
        accept(&mut outbox, "yard", 1, b"x");
        outbox.renew(settings(Some(&new)), Duration::from_secs(1), at(1));
        assert!(new.exists() && !old.exists());
        assert_eq!((outbox.stream(), outbox.waiting(), outbox.cursor()), (stream.as_str(), 3, 1));
        accept(&mut outbox, "yard", 2, b"x");
        commit(&mut outbox, 2);
        kill(outbox);
        let opened = Outbox::open(settings(Some(&new)), at(3));
        assert!(opened.notes.is_empty(), "{:?}", opened.notes);
        let mut outbox = opened.outbox;
        let expected = [("door", 1), ("yard", 2), ("yard", 3), ("yard", 4)];
        assert_eq!(seqs(&outbox.after(1, 10)), expected.map(|(camera, seq)| (camera.to_string(), seq)));
        assert_eq!(outbox.stream(), stream);
        kill(outbox);
        std::fs::remove_dir_all(new.parent().unwrap()).unwrap();
    }
}

#[test]
fn the_files_are_private_and_links_in_their_place_are_not_followed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let victim = elsewhere.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let state = folder.path().join("deep/state");
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode();
    for kind in ["none", "link", "hard link", "dangling link"] {
        let file = state.join(kind).join("outbox.db");
        let reserve = state.join(kind).join("outbox.db-reserve");
        std::fs::create_dir_all(&state).unwrap();
        std::fs::create_dir(state.join(kind)).unwrap();
        match kind {
            "link" => symlink(&victim, &reserve).unwrap(),
            "hard link" => std::fs::hard_link(&victim, &reserve).unwrap(),
            "dangling link" => symlink(elsewhere.path().join("new"), &reserve).unwrap(),
            _ => {}
        }
        let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
        accept(&mut outbox, "yard", 0, b"x");
        commit(&mut outbox, 0);
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious", "{kind}");
        assert!(!elsewhere.path().join("new").exists(), "{kind}");
        for file in [&file, &reserve, &state.join(kind).join("outbox.db-wal")] {
            assert_eq!(mode(file), 0o100_600, "{kind}: {}", file.display());
        }
    }
    // A database is not created through a link either.
    let file = folder.path().join("outbox.db");
    symlink(elsewhere.path().join("new"), &file).unwrap();
    let opened = Outbox::open(settings(Some(&file)), at(0));
    assert!(opened.notes[0].contains("it is a link to a file that does not exist"), "{:?}", opened.notes);
    assert!(!elsewhere.path().join("new").exists());
    // Missing directories are created for this user alone.
    let deep = folder.path().join("new/state/outbox.db");
    drop(Outbox::open(settings(Some(&deep)), at(0)));
    assert_eq!(mode(&folder.path().join("new")), 0o40_700);
    assert_eq!(mode(&folder.path().join("new/state")), 0o40_700);
}

#[test]
fn an_outbox_does_not_move_over_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, taken) = (folder.path().join("o.db"), folder.path().join("taken"));
    std::fs::write(&taken, "something else").unwrap();
    let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
    accept(&mut outbox, "yard", 0, b"x");
    let refusal = check_move(&settings(Some(&file)), &settings(Some(&taken))).unwrap_err();
    assert!(refusal.contains("outbox.file") && refusal.contains("exists"), "{refusal}");
    let none = check_move(&settings(Some(&file)), &settings(None)).unwrap_err();
    assert!(none.contains("only at a restart"), "{none}");
    outbox.renew(settings(Some(&taken)), Duration::ZERO, at(0));
    commit(&mut outbox, 1);
    assert_eq!((outbox.after(0, 10).len(), file.exists()), (1, true));
    assert_eq!(std::fs::read(&taken).unwrap(), b"something else");
    // What has no length may be more than an empty file.
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let refusal = check_move(&settings(Some(&file)), &settings(Some(&socket))).unwrap_err();
    assert!(refusal.contains("exists") && socket.exists(), "{refusal}");
    // A free name leaves nothing behind.
    check_move(&settings(Some(&file)), &settings(Some(&folder.path().join("free")))).unwrap();
    assert!(!folder.path().join("free").exists());
}
