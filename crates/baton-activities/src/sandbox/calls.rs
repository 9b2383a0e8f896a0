//! Filters of system calls: they refuse what neither namespaces nor Landlock do.
//!
//! Under any means a command has no memory that belongs to no process, which no limit would count and which the system,
//! short of memory, could not get back by ending a process: segments and queues of System V, files in memory alone, file
//! systems of its own. Under Landlock it shares its processes' and users' numbers with the server, and the filter refuses
//! what could be done to others of the same user.
//!
//! # Deliberately absent
//! The filter sees arguments, not what they point to, and `clone3` keeps its flags there: new user namespaces are not refused.

use std::collections::BTreeMap;

use landlock::ABI;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// System calls under the same numbers on all machines, newer than the constants of `libc`.
const MEMFD_SECRET: i64 = 447;
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
/// Of `ioprio_set`: one process.
const IOPRIO_WHO_PROCESS: i32 = 1;
/// Of `fcntl`: who gets the signals of a file, in its longer form.
const F_SETOWN_EX: i32 = 15;
/// Of `fcntl`: which signal that is.
const F_SETSIG: i32 = 10;
/// The same as `F_SETOWN`, for sockets.
const FIOSETOWN: i32 = 0x8901;
const SIOCSPGRP: i32 = 0x8902;
/// What marks the numbers of x86-64's second table of system calls.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// Refused by whatever means a command is confined.
const ALWAYS: [i64; 27] = [
    // Memory that belongs to no process.
    libc::SYS_memfd_create,
    MEMFD_SECRET,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // File systems in memory.
    libc::SYS_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    // The server's keys.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // They would do some of what is filtered past the filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Refused under Landlock.
const BY_LANDLOCK: [i64; 10] = [
    libc::SYS_setsid,
    // Landlock knows no changes of modes, owners and attributes.
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

/// System calls whose first argument is a process: 0 for the caller itself. Threads that name themselves by their
/// numbers are refused, too; runtimes take that for a machine where it is not allowed, and go on.
const OF_A_PROCESS: [i64; 7] = [
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filter of commands that have namespaces of their own, as the bytes that `bwrap --seccomp` reads.
pub(super) fn in_namespaces() -> seccompiler::Result<Vec<u8>> {
    let program = compiled(always())?;
    let bytes =
        |(code, jt, jf, k): (u16, u8, u8, u32)| [code.to_ne_bytes().as_slice(), &[jt, jf], &k.to_ne_bytes()].concat();
    Ok(program.iter().flat_map(|it| bytes((it.code, it.jt, it.jf, it.k))).collect())
}

/// The filter of commands under Landlock: of this version, with network or without, in this process group.
pub(super) fn under_landlock(abi: ABI, network: bool, group: i32) -> seccompiler::Result<BpfProgram> {
    let mut rules = always();
    for call in BY_LANDLOCK {
        rules.insert(call, Vec::new());
    }
    #[cfg(target_arch = "x86_64")]
    for call in [libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown] {
        rules.insert(call, Vec::new());
    }
    if abi < ABI::V3 {
        rules.insert(libc::SYS_truncate, Vec::new());
    }
    if abi < ABI::V6 {
        for call in [
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_tgkill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_pidfd_send_signal,
        ] {
            rules.insert(call, Vec::new());
        }
    }
    // All that a command starts stays in its group, so that killing the group ends it.
    rules.insert(libc::SYS_setpgid, vec![unless(1, &[group])?]);
    for call in OF_A_PROCESS {
        rules.insert(call, vec![unless(0, &[0])?]);
    }
    for (call, process) in [
        (libc::SYS_setpriority, i32::try_from(libc::PRIO_PROCESS).unwrap_or_default()),
        (libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS),
    ] {
        rules.insert(call, vec![unless(0, &[process])?, unless(1, &[0])?]);
    }
    // A file may send signals to whoever is its owner; Landlock sees to that since version 6 only.
    let owners = [libc::F_SETOWN, F_SETOWN_EX, F_SETSIG];
    rules.insert(libc::SYS_fcntl, owners.into_iter().map(|it| when(1, it)).collect::<Result<_, _>>()?);
    let owners = [FIOSETOWN, SIOCSPGRP];
    rules.insert(libc::SYS_ioctl, owners.into_iter().map(|it| when(1, it)).collect::<Result<_, _>>()?);
    // Sockets by path lead to other services of this machine: a container engine, an agent of keys.
    let allowed = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    rules.insert(libc::SYS_socket, if network { vec![unless(0, &allowed)?] } else { Vec::new() });
    compiled(rules)
}

fn always() -> Rules {
    ALWAYS.into_iter().map(|call| (call, Vec::new())).collect()
}

fn compiled(mut rules: Rules) -> seccompiler::Result<BpfProgram> {
    #[cfg(target_arch = "x86_64")]
    for (call, rule) in rules.clone() {
        rules.insert(call | X32, rule);
    }
    let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Refuses where an argument is none of these.
fn unless(argument: u8, values: &[i32]) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(values.iter().map(|it| condition(argument, SeccompCmpOp::Ne, *it)).collect::<Result<_, _>>()?)
}

/// Refuses where an argument is this.
fn when(argument: u8, value: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![condition(argument, SeccompCmpOp::Eq, value)?])
}

fn condition(argument: u8, how: SeccompCmpOp, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, u64::from(value.unsigned_abs()))
}
