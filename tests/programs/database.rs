//! A database whose file lives in the image: the first write copies it up under readers that have it open and mapped.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::NEEDS;
use super::mounted::ground::Ground;
use super::mounted::requirement::{Requirement, can_run};
use super::mounted::union::Driver;

const NEEDS_SQLITE: &[Requirement] = &[NEEDS[0], NEEDS[1], NEEDS[2], Requirement::Tool("sqlite3")];

/// Rows, and what they all hold together: transfers between them keep it.
const ROWS: u32 = 400;
const TOTAL: u32 = ROWS * 100;
/// Transfers that the writer makes.
const TRANSFERS: u32 = 60;

/// One connection, kept open.
struct Connection {
    program: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Connection {
    fn open(database: &Path) -> Self {
        let mut command = Command::new("sqlite3");
        command.arg("-batch").arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let (ask, answer) = (program.stdin.take().unwrap(), BufReader::new(program.stdout.take().unwrap()));
        let mut this = Self { program, ask, answer };
        assert_eq!(this.ask("PRAGMA busy_timeout = 20000"), "20000");
        assert_eq!(this.ask("PRAGMA mmap_size = 67108864"), "67108864");
        this
    }

    /// A statement that answers one row of one column.
    fn ask(&mut self, statement: &str) -> String {
        writeln!(self.ask, "{statement};").unwrap();
        let mut line = String::new();
        self.answer.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn transfer(&mut self, n: u32) {
        let (from, to) = (n % ROWS + 1, (n * 7 + 3) % ROWS + 1);
        let statements = format!(
            "BEGIN IMMEDIATE; UPDATE t SET v = v - 5 WHERE id = {from}; UPDATE t SET v = v + 5 WHERE id = {to}; COMMIT; SELECT 'done'"
        );
        assert_eq!(self.ask(&statements), "done");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ended = self.program.kill();
        let _reaped = self.program.wait();
    }
}

fn make(tree: &Path) {
    let mut connection = Connection::open(&tree.join("data.db"));
    let rows = format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, pad TEXT); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
         INSERT INTO t SELECT i, 100, hex(randomblob(400)) FROM n; SELECT count(*) FROM t"
    );
    assert_eq!(connection.ask(&rows), ROWS.to_string());
}

fn lives_through_copy_up(driver: Driver, journal: &str) {
    let ground = Ground::image(&[], make);
    let mut union = ground.mount(driver, &[]);
    let database = union.path().join("data.db");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each has read, through its mapping, before anything is written.
        let mut readers: Vec<Connection> = (0..3).map(|_| Connection::open(&database)).collect();
        for reader in &mut readers {
            assert_eq!(reader.ask("SELECT sum(v) FROM t"), TOTAL.to_string());
        }
        let reading: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !is_over.load(Ordering::Acquire) || rounds == 0 {
                        assert_eq!(reader.ask("SELECT sum(v) FROM t"), TOTAL.to_string());
                        rounds += 1;
                    }
                    assert_ne!(reader.ask("SELECT count(*) FROM t WHERE v <> 100"), "0", "sees what was written");
                })
            })
            .collect();
        let writing = scope.spawn(|| {
            let mut writer = Connection::open(&database);
            assert_eq!(writer.ask(&format!("PRAGMA journal_mode = {journal}")), journal);
            (0..TRANSFERS).for_each(|n| writer.transfer(n));
        });
        let written = writing.join();
        is_over.store(true, Ordering::Release);
        reading.into_iter().for_each(|reader| reader.join().unwrap());
        written.unwrap();
    });
    for _ in 0..2 {
        let mut connection = Connection::open(&database);
        assert_eq!(connection.ask("PRAGMA integrity_check"), "ok");
        assert_eq!(connection.ask("SELECT sum(v) FROM t"), TOTAL.to_string());
        drop(connection);
        union.remount_by(Driver::Kernel);
    }
}

#[test]
fn a_database_with_a_rollback_journal() {
    if can_run("a_database_with_a_rollback_journal", NEEDS_SQLITE) {
        lives_through_copy_up(Driver::Haosfs, "delete");
    }
}

#[test]
fn a_database_with_a_write_ahead_log() {
    if can_run("a_database_with_a_write_ahead_log", NEEDS_SQLITE) {
        lives_through_copy_up(Driver::Haosfs, "wal");
    }
}
