//! Acting as somebody else in one thread. Credentials are per thread in Linux, so the rest of the test stays root.

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// "nobody": an ordinary user that owns nothing.
pub const NOBODY: u32 = 65534;

/// Runs `work` in a thread of its own as `uid`, with the groups `gid` and `groups`, without any capability.
pub fn as_user<R: Send>(uid: u32, gid: u32, groups: &[u32], work: impl FnOnce() -> R + Send) -> R {
    let become_user = move || {
        let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&groups).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
    };
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_user();
            work()
        });
        thread.join()
    });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
