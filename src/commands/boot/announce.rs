//! What must not be overlooked: on the console and in the kernel's log.

use std::fs::File;
use std::io::Write;

/// The system's console.
const CONSOLE: &str = "/dev/console";

/// Says it in a frame. There may be no console.
pub fn loudly(lines: &[String]) {
    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let rule = "*".repeat(widest + 4);
    let body: String = lines.iter().map(|line| format!("* {line:widest$} *\n")).collect();
    if let Ok(mut console) = File::options().write(true).open(CONSOLE) {
        let _nobody_reads_it = write!(console, "\n{rule}\n{body}{rule}\n");
    }
    lines.iter().for_each(|line| tracing::error!("{line}"));
}
