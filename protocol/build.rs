//! Generates Rust types from `proto/roost.proto`, without an installed protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/roost.proto");
    let descriptors = protox::compile(["proto/roost.proto"], ["proto"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.enable_type_names();
    config.compile_fds(descriptors)?;
    Ok(())
}
