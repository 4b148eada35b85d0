//! Generates the message types from `proto/gsb_api.proto`, without needing `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = "../../proto";
    let file = "../../proto/gsb_api.proto";
    println!("cargo::rerun-if-changed={file}");
    let descriptors = protox::compile([file], [directory])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
