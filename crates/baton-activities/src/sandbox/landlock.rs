//! Commands confined by Landlock and a filter of system calls: for where namespaces cannot be had, as in most containers.
//!
//! Both hold for one thread and whatever it starts. So a thread of its own confines itself, starts the command and ends;
//! no other thread of the server is touched, and nothing runs between the fork and the start of the command.
//!
//! What Landlock does not know, the filter refuses (see [`calls`]): sockets, changes of modes and owners by path (a command
//! has the server's user), limits and priorities of other processes, the keyring, and leaving the process group. Kernels
//! before 6.12 lack more, and the filter refuses more.

use std::io;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, LandlockStatus, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

use super::{DEVICES, Place, calls};

/// The newest version of Landlock whose rights are asked for; an older kernel gives what it knows.
const NEWEST: ABI = ABI::V6;

/// Starts a command from a thread that is confined.
pub(super) async fn spawn(place: &Place, mut command: Command) -> io::Result<Child> {
    let readable: Vec<_> = place.readable().map(ToOwned::to_owned).collect();
    let confinement = Confinement {
        readable,
        directory: place.directory.clone(),
        network: place.options.network,
        group: place.group,
    };
    let runtime = Handle::current();
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
        let _runtime = runtime.enter();
        let child = confinement.enter().and_then(|()| command.spawn());
        _ = tell.send(child);
    })?;
    told.await.unwrap_or_else(|_| Err(io::Error::other("the thread that starts the command ended")))
}

struct Confinement {
    readable: Vec<std::path::PathBuf>,
    directory: std::path::PathBuf,
    network: bool,
    group: i32,
}

impl Confinement {
    /// Confines this thread, for good.
    fn enter(&self) -> io::Result<()> {
        let abi = self.restrict_files().map_err(io::Error::other)?;
        let filter = calls::under_landlock(abi, self.network, self.group).map_err(io::Error::other)?;
        seccompiler::apply_filter(&filter).map_err(io::Error::other)
    }

    fn restrict_files(&self) -> Result<ABI, Box<dyn std::error::Error + Send + Sync>> {
        let device = AccessFs::ReadFile | AccessFs::WriteFile;
        let ruleset = landlock::Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rules(path_beneath_rules(&self.readable, AccessFs::from_read(NEWEST)))?
            .add_rules(path_beneath_rules(DEVICES, device))?
            .add_rules(path_beneath_rules([&self.directory], AccessFs::from_all(NEWEST)))?;
        let status = ruleset.restrict_self()?;
        match status.landlock {
            LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => {
                Ok(effective_abi)
            }
            _ => Err("is not switched on in this kernel".into()),
        }
    }
}
