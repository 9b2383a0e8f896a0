//! Where the programs are that tests need.

use std::path::{Path, PathBuf};

/// The binary `temporal`: `BATON_TEST_TEMPORAL`, else what `cargo xtask tools` has made, else the one on the path.
///
/// # Panics
/// If there is none.
pub fn temporal() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("temporal"));
    find("BATON_TEST_TEMPORAL", "temporal", on_path)
}

/// A Python that has the module `temporalio`: `BATON_TEST_PYTHON`, else what `cargo xtask tools` has made.
///
/// # Panics
/// If there is none.
pub fn python() -> PathBuf {
    find("BATON_TEST_PYTHON", "python", std::iter::empty())
}

fn find(variable: &str, program: &str, elsewhere: impl Iterator<Item = PathBuf>) -> PathBuf {
    if let Some(named) = std::env::var_os(variable) {
        let named = PathBuf::from(named);
        assert!(named.is_file(), "{variable} names {}, which is not there", named.display());
        return named;
    }
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/venv/bin").join(program);
    std::iter::once(made).chain(elsewhere).find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no program '{program}' for the tests; make it with `cargo xtask tools`, or name one in {variable}")
    })
}
