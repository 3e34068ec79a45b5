//! A running machine. Its first serial port is the console, kept in a file; by the second it takes scripts and answers.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::host;
use super::kernel::Kernel;

/// After which a machine counts as hanging, whatever it was asked for.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// What a machine is started with.
pub struct Setup<'a> {
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// Its initramfs.
    pub initramfs: &'a Path,
    /// Its disk.
    pub disk: &'a Path,
    /// Where every write to the disk is logged, for [`super::crash`].
    pub log: Option<&'a Path>,
    /// More for the kernel's command line.
    pub append: &'a str,
    /// More for QEMU.
    pub more: &'a [&'a str],
}

/// A machine; it is killed when this is dropped.
pub struct Guest {
    qemu: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
    console: PathBuf,
    began: Instant,
}

/// What a script in the guest came to.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// What it wrote, both streams.
    pub text: String,
}

impl Guest {
    /// Switches a machine on.
    pub fn start(setup: &Setup<'_>) -> Self {
        let console = setup.disk.with_extension("console");
        let mut command = qemu(setup, &console);
        let mut qemu = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(qemu.stdout.take().unwrap());
        std::thread::spawn(move || {
            let texts = output.split(b'\n').map_while(Result::ok);
            texts
                .map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned())
                .try_for_each(|line| send.send(line))
        });
        Self { orders: qemu.stdin.take().unwrap(), qemu, lines, console, began: Instant::now() }
    }

    /// Waits until it takes scripts; says how long that took.
    pub fn until_ready(&mut self) -> Duration {
        while self.next_line() != "@ready" {}
        self.began.elapsed()
    }

    /// The next line from the second port.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(e) => panic!("the machine says nothing ({e}); its console:\n{}", self.console()),
        }
    }

    /// Starts a script.
    pub fn order(&mut self, script: &str) {
        let mut line = String::new();
        script.bytes().for_each(|byte| write!(line, "\\0{byte:03o}").unwrap());
        writeln!(self.orders, "{line}").unwrap();
    }

    /// Runs a script to its end.
    #[track_caller]
    pub fn run(&mut self, script: &str) -> Answer {
        self.order(script);
        let mut text = String::new();
        loop {
            let line = self.next_line();
            if let Some((rest, code)) = line.split_once("@end ") {
                text.push_str(rest);
                return Answer { code: code.parse().unwrap(), text };
            }
            text.push_str(&line);
            text.push('\n');
        }
    }

    /// Runs a script that must succeed, and returns what it wrote.
    #[track_caller]
    pub fn sh(&mut self, script: &str) -> String {
        let answer = self.run(script);
        assert_eq!(answer.code, 0, "{script}: {}\n{}", answer.text, self.console());
        answer.text
    }

    /// Waits until it has switched itself off, or would start again; says how long that took.
    #[track_caller]
    pub fn until_off(mut self) -> (Duration, String) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.qemu.try_wait().unwrap().is_some() {
                return (began.elapsed(), self.console());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the machine does not switch itself off; its console:\n{}", self.console());
    }

    /// Has it switched off in the ordinary way.
    #[track_caller]
    pub fn power_off(mut self) -> (Duration, String) {
        self.order("poweroff");
        let (took, console) = self.until_off();
        assert!(console.contains("reboot: Power down"), "{console}");
        (took, console)
    }

    /// What the console has shown so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// The next line, if it comes until then.
    pub fn line_until(&mut self, end: Instant) -> Option<String> {
        self.lines.recv_timeout(end.saturating_duration_since(Instant::now())).ok()
    }

    /// Pulls the plug. What the guest has written to its disk is there, what it only had in memory is gone. Returns the lines that
    /// had left it by then.
    pub fn cut(mut self) -> Vec<String> {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        self.lines.iter().collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Goes with the thread that starts it.
fn qemu(setup: &Setup<'_>, console: &Path) -> Command {
    let mut command = host::command("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(host::tool("qemu-system-x86_64").unwrap());
    command.args(["-accel", &std::env::var("HAOSFS_ACCEL").unwrap_or_else(|_| "tcg".to_owned())]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-cpu", "max,-cx16", "-m", "512", "-no-reboot"]);
    command.arg("-chardev").arg(format!("file,id=console,path={}", console.display()));
    command.args(["-serial", "chardev:console", "-chardev", "stdio,id=orders,signal=off", "-serial", "chardev:orders"]);
    command.arg("-kernel").arg(setup.kernel.file()).arg("-initrd").arg(setup.initramfs);
    command.arg("-append").arg(format!("console=ttyS0 loglevel=6 panic=5 {}", setup.append));
    let disk = setup.disk.display();
    match setup.log {
        None => command.arg("-drive").arg(format!("file={disk},if=virtio,format=raw,cache=writeback")),
        Some(log) => {
            let log = log.display();
            let logged = "driver=blklogwrites,node-name=logged,file=disk,log=log,log-super-update-interval=1";
            command.args(["-blockdev", &format!("driver=file,node-name=disk,filename={disk}")]);
            command.args(["-blockdev", &format!("driver=file,node-name=log,filename={log}")]);
            command.args(["-blockdev", logged, "-device", "virtio-blk-pci,drive=logged"])
        }
    };
    command.args(setup.more);
    command
}
