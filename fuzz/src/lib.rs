//! What the fuzz targets share.

pub mod frames;
pub mod input;
pub mod memory;
pub mod names;
pub mod queues;
pub mod router;
