//! For the C ABI: generates the header beside the build's other output, and names the library.
//!
//! `include/onceflight.h` is checked in, so that C programs and distributors need no cbindgen; a
//! test holds the two together, and `make header` copies the generated one over.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "capi")]
    capi();
}

#[cfg(feature = "capi")]
fn capi() {
    use std::env::var;
    use std::path::PathBuf;

    println!("cargo::rerun-if-changed=src/ffi");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rerun-if-env-changed=ONCEFLIGHT_HEADER_OUT");

    let root = var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let config = cbindgen::Config::from_root_or_default(&root);
    let header = cbindgen::Builder::new()
        .with_config(config)
        .with_src(format!("{root}/src/ffi/code.rs"))
        .with_src(format!("{root}/src/ffi/options.rs"))
        .with_src(format!("{root}/src/ffi/response.rs"))
        .with_src(format!("{root}/src/ffi/request.rs"))
        .with_src(format!("{root}/src/ffi/table.rs"))
        .with_src(format!("{root}/src/ffi/turn.rs"))
        .with_src(format!("{root}/src/ffi/stats.rs"))
        .with_src(format!("{root}/src/ffi/queue.rs"))
        .with_src(format!("{root}/src/ffi/key.rs"))
        .with_src(format!("{root}/src/ffi/sessions.rs"))
        .with_src(format!("{root}/src/ffi/rows.rs"))
        .with_src(format!("{root}/src/ffi/sql.rs"))
        .generate()
        .expect("cbindgen reads src/ffi");
    let out = PathBuf::from(var("OUT_DIR").expect("cargo sets it")).join("onceflight.h");
    header.write_to_file(&out);
    if let Ok(copy) = var("ONCEFLIGHT_HEADER_OUT") {
        std::fs::copy(&out, copy).expect("ONCEFLIGHT_HEADER_OUT can be written");
    }

    // An object without a soname would be recorded in its users by its path.
    if var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let major = var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets it");
        println!("cargo::rustc-link-arg=-Wl,-soname,libonceflight.so.{major}");
    }
}
