//! Answers as replies.

use std::sync::Arc;

use fuser::{INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyWrite, ReplyXattr};

use super::convert::{FOREVER, GENERATION, attr, errno, wire};
use crate::error::{Errno, Result};
use crate::types::Attr;
use crate::union::node::Node;

pub(super) fn entry(doing: &'static str, answer: Result<(Arc<Node>, Attr)>, reply: ReplyEntry) {
    match answer {
        Ok((node, found)) => reply.entry(&FOREVER, &named(&node, &found), GENERATION),
        Err(e) => reply.error(errno(doing, &e)),
    }
}

/// An entry's attributes; fuser takes the node's id from the inode number in them.
pub(super) fn named(node: &Node, found: &Attr) -> fuser::FileAttr {
    fuser::FileAttr { ino: INodeNo(node.id.0), ..attr(found) }
}

pub(super) fn empty(doing: &'static str, answer: Result<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(doing, &e)),
    }
}

pub(super) fn attributes(doing: &'static str, answer: Result<Attr>, reply: ReplyAttr) {
    match answer {
        Ok(found) => reply.attr(&FOREVER, &attr(&found)),
        Err(e) => reply.error(errno(doing, &e)),
    }
}

pub(super) fn written(doing: &'static str, answer: Result<usize>, reply: ReplyWrite) {
    match answer {
        Ok(n) => reply.written(u32::try_from(n).unwrap_or(u32::MAX)),
        Err(e) => reply.error(errno(doing, &e)),
    }
}

pub(super) fn sized(doing: &'static str, answer: Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match answer {
        Ok(bytes) if size == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if bytes.len() > size as usize => reply.error(wire(Errno::ERANGE)),
        Ok(bytes) => reply.data(&bytes),
        Err(e) => reply.error(errno(doing, &e)),
    }
}
