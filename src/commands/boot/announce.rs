//! What must not be overlooked: on the console and in the kernel's log.

use std::fs::File;
use std::io::Write;

/// The system's console.
const CONSOLE: &str = "/dev/console";

/// The console, for whoever will have no path to it; there may be none.
pub fn console() -> Option<File> {
    File::options().write(true).open(CONSOLE).ok()
}

/// Says it in a frame.
pub fn loudly(lines: &[String]) {
    loudly_on(console(), lines);
}

/// Says it on a console that is open already.
pub fn loudly_on(console: Option<File>, lines: &[String]) {
    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let rule = "*".repeat(widest + 4);
    let body: String = lines.iter().map(|line| format!("* {line:widest$} *\n")).collect();
    if let Some(mut console) = console {
        let _nobody_reads_it = write!(console, "\n{rule}\n{body}{rule}\n");
    }
    lines.iter().for_each(|line| tracing::error!("{line}"));
}
