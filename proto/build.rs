//! Compiles the .proto files with protox, so that no `protoc` is needed.

use std::error::Error;

const FILES: &[&str] = &[
    "provisionerd/v1/types.proto",
    "provisionerd/v1/fleet.proto",
    "provisionerd/v1/management.proto",
    "provisionerd/v1/process.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".provisionerd.v1.BlobChunk")
        .bytes(".provisionerd.v1.PutBlobRequest")
        .bytes(".provisionerd.v1.GetBlobPartReply")
        .bytes(".provisionerd.v1.PutBlobPartRequest")
        // Ten thousand streams wait for a reply that is hardly ever a job: the room for
        // one must not be in each of their queues.
        .boxed(".provisionerd.v1.AcquireReply.message.job")
        .boxed(".provisionerd.v1.AcquireNowReply.message.job")
        .codec_path("crate::codec::Lean")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .compile_fds(descriptors)?;
    Ok(())
}
