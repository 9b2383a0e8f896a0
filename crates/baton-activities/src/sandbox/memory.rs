//! The memory of whole commands: all of their processes together, however they have it.
//!
//! The limits of POSIX count the private memory of one process, and neither what processes share nor their sum. So one
//! thread looks at all groups that run, several times a second, and kills a group that has more than it may.
//!
//! # Invariants
//! - A group is killed only while it is watched, under the lock by which it stops being watched: its number is its own then.
//! - The thread is there only while there is something to watch.
//!
//! # Deliberately absent
//! Control groups: they need root or a delegation, and then limit the server as a whole better than this could. What is
//! taken between two looks is not limited; when it is too much for the machine, the system ends commands first.

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

#[cfg(target_os = "linux")]
use procfs::process::{Process, all_processes};
use rustix::process::{Pid, Signal, kill_process_group};

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(100);
/// How much sooner than others a command is ended when the system runs out of memory: as soon as can be.
const ENDED_FIRST: &str = "1000";

/// All groups that are watched. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryWatch(Arc<Mutex<Groups>>);

#[derive(Debug, Default)]
struct Groups {
    by_id: BTreeMap<i32, Group>,
    /// Whether the thread runs.
    looking: bool,
}

#[derive(Debug)]
struct Group {
    bytes_max: u64,
    exceeded: Arc<AtomicBool>,
}

/// A group that is watched as long as this is there.
#[derive(Debug)]
pub(super) struct Watched {
    watch: MemoryWatch,
    id: i32,
    exceeded: Arc<AtomicBool>,
}

impl MemoryWatch {
    /// Watches a process group and what descends from it. Whoever leads the group must not be waited for before this is dropped.
    pub(super) fn watch(&self, id: i32, bytes_max: u64) -> io::Result<Watched> {
        let exceeded = Arc::new(AtomicBool::new(false));
        let mut groups = self.groups();
        if !groups.looking {
            let watch = self.clone();
            thread::Builder::new().name("memory-watch".to_owned()).spawn(move || watch.look())?;
            groups.looking = true;
        }
        groups.by_id.insert(id, Group { bytes_max, exceeded: Arc::clone(&exceeded) });
        Ok(Watched { watch: self.clone(), id, exceeded })
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until there is nothing to watch.
    fn look(&self) {
        let mut is_blind = false;
        loop {
            thread::sleep(PERIOD);
            let ids: Vec<i32> = {
                let mut groups = self.groups();
                groups.looking = !groups.by_id.is_empty();
                if !groups.looking {
                    return;
                }
                groups.by_id.keys().copied().collect()
            };
            let Some(used) = used_by(&ids) else {
                if !std::mem::replace(&mut is_blind, true) {
                    tracing::warn!("the memory of commands is not limited: /proc tells of no processes here");
                }
                continue;
            };
            let groups = self.groups();
            for (id, used) in used {
                let Some(group) = groups.by_id.get(&id).filter(|group| used > group.bytes_max) else { continue };
                group.exceeded.store(true, Relaxed);
                if let Some(id) = Pid::from_raw(id) {
                    // It may have ended by itself.
                    _ = kill_process_group(id, Signal::KILL);
                }
            }
        }
    }
}

impl Watched {
    /// Whether it was killed for its memory: true as soon as it is.
    pub(super) fn exceeded(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.exceeded)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.groups().by_id.remove(&self.id);
    }
}

/// Has the system end a process, and what that starts, before others when it runs out of memory.
pub(super) fn end_first(process: u32) {
    // It may have ended by itself.
    _ = std::fs::write(format!("/proc/{process}/oom_score_adj"), ENDED_FIRST);
}

/// Elsewhere the limits of single processes are all there is.
#[cfg(not(target_os = "linux"))]
fn used_by(_ids: &[i32]) -> Option<BTreeMap<i32, u64>> {
    None
}

/// Bytes that groups use, with all that descends from their processes. `None` if the system does not tell.
#[cfg(target_os = "linux")]
fn used_by(ids: &[i32]) -> Option<BTreeMap<i32, u64>> {
    let all = all_processes().ok()?;
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut members: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for stat in all.flatten().filter_map(|process| process.stat().ok()) {
        children.entry(stat.ppid).or_default().push(stat.pid);
        members.entry(stat.pgrp).or_default().push(stat.pid);
    }
    let used = |id: &i32| {
        let mut open = members.get(id).cloned().unwrap_or_default();
        let mut seen = BTreeSet::new();
        while let Some(pid) = open.pop() {
            if seen.insert(pid) {
                open.extend(children.get(&pid).into_iter().flatten());
            }
        }
        (*id, seen.into_iter().filter_map(memory_of).sum())
    };
    Some(ids.iter().map(used).collect())
}

/// What a process has in memory, but for its programs and other files; its part of what it shares.
#[cfg(target_os = "linux")]
fn memory_of(pid: i32) -> Option<u64> {
    let process = Process::new(pid).ok()?;
    let told = process.smaps_rollup().ok().and_then(|told| told.memory_map_rollup.0.into_iter().next());
    let Some(told) = told else {
        // It hides what it has, or it is ending.
        return Some(process.stat().ok()?.rss.saturating_mul(procfs::page_size()));
    };
    let part = |name| told.extension.map.get(name).copied();
    let resident = part("Pss_Anon").zip(part("Pss_Shmem")).map(|(own, shared)| own.saturating_add(shared));
    Some(resident.or_else(|| part("Pss"))?.saturating_add(part("SwapPss").unwrap_or_default()))
}
