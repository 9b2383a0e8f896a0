//! Commands confined by Landlock and a filter of system calls: for where namespaces cannot be had, as in most containers.
//!
//! Both hold for one thread and whatever it starts. So a thread of its own confines itself, starts the command and ends;
//! no other thread of the server is touched, and nothing runs between the fork and the start of the command.
//!
//! What Landlock does not know, the filter refuses: sockets, changes of modes and owners by path (a command has the
//! server's user), the keyring, and leaving the process group. Kernels before 6.12 lack more, and the filter refuses more.

use std::{collections::BTreeMap, io};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, LandlockStatus, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

use super::{DEVICES, Place};

/// The newest version of Landlock whose rights are asked for; an older kernel gives what it knows.
const NEWEST: ABI = ABI::V6;
/// System calls under the same numbers on all machines, newer than the constants of `libc`.
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
/// What marks the numbers of x86-64's second table of system calls.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

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
        let filter = self.filter(abi).map_err(io::Error::other)?;
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

    fn filter(&self, abi: ABI) -> seccompiler::Result<BpfProgram> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for call in refused(abi) {
            rules.insert(call, Vec::new());
        }
        // All that a command starts stays in its group, so that killing the group ends it.
        let elsewhere = is_none_of(1, &[self.group])?;
        rules.insert(libc::SYS_setpgid, vec![SeccompRule::new(elsewhere)?]);
        let mut sockets = Vec::new();
        if self.network {
            // Those by path lead to other services of this machine: a container engine, an agent of keys.
            let others = is_none_of(0, &[libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK])?;
            sockets.push(SeccompRule::new(others)?);
        }
        rules.insert(libc::SYS_socket, sockets);
        #[cfg(target_arch = "x86_64")]
        for (call, rule) in rules.clone() {
            rules.insert(call | X32, rule);
        }
        let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, std::env::consts::ARCH.try_into()?)?;
        Ok(filter.try_into()?)
    }
}

fn is_none_of(argument: u8, values: &[i32]) -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
    let differs = |value: &i32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(value.unsigned_abs()))
    };
    values.iter().map(differs).collect()
}

/// System calls that are refused whatever their arguments are.
fn refused(abi: ABI) -> Vec<i64> {
    let mut calls = vec![
        libc::SYS_setsid,
        libc::SYS_add_key,
        libc::SYS_keyctl,
        libc::SYS_request_key,
        // They would open sockets past the filter.
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_fchmodat,
        libc::SYS_fchownat,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        FCHMODAT2,
        SETXATTRAT,
        REMOVEXATTRAT,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown]);
    if abi < ABI::V3 {
        calls.push(libc::SYS_truncate);
    }
    if abi < ABI::V6 {
        calls.extend([
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_tgkill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_pidfd_send_signal,
        ]);
    }
    calls
}
