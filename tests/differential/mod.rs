//! The same steps on two unions of the same lowers, one by the kernel's overlayfs and one by haosfs.

pub mod act;
pub mod generate;
pub mod landscape;
pub mod layers;
pub mod listed;
pub mod pair;
pub mod run;
pub mod same;
pub mod step;
