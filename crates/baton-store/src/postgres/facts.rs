//! What a group's guards and expectations ask about, read in one round trip under the lock.
//!
//! From then on it is kept up to date in memory as transactions of the group are accepted, so that later ones see earlier
//! ones without asking the database again.

use std::collections::{BTreeSet, HashMap, HashSet};

use tokio_postgres::{Client, Error, Row};

use super::statements::Statements;
use crate::model::{Digest, Expect, Guard, Number, ResourceKey, TimerRow, Txn, Uid};

/// A living resource.
#[derive(Clone, Debug)]
pub(super) struct Living {
    pub(super) key: ResourceKey,
    pub(super) uid: Uid,
    pub(super) revision: u64,
}

/// The state of whatever was asked about; what is not here does not exist.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) resources: HashMap<Number, Living>,
    pub(super) names: HashMap<ResourceKey, Number>,
    pub(super) uids: HashSet<Uid>,
    pub(super) journal_last: HashMap<Number, i64>,
    pub(super) timers: HashSet<TimerRow>,
    /// Whether each is answered.
    pub(super) mailboxes: HashMap<[u8; 16], bool>,
    pub(super) outbox: HashSet<i64>,
    pub(super) blobs: HashSet<Digest>,
}

/// The keys that transactions ask about.
#[derive(Debug, Default)]
pub(super) struct Wanted<'g> {
    numbers: BTreeSet<Number>,
    keys: HashSet<&'g ResourceKey>,
    uids: BTreeSet<Uid>,
    journals: BTreeSet<Number>,
    timers: BTreeSet<TimerRow>,
    mailboxes: BTreeSet<[u8; 16]>,
    outbox: BTreeSet<i64>,
    blobs: BTreeSet<Digest>,
}

impl<'g> Wanted<'g> {
    pub(super) fn of(group: &[&'g Txn]) -> Self {
        let mut wanted = Self::default();
        for txn in group {
            for guard in &txn.guards {
                wanted.guard(guard);
            }
            for put in &txn.puts {
                wanted.numbers.insert(put.number);
                if put.expect == Expect::Absent {
                    wanted.keys.insert(&put.key);
                    wanted.uids.insert(put.uid);
                }
            }
            wanted.numbers.extend(txn.deletes.iter().map(|delete| delete.number));
            wanted.outbox.extend(txn.outbox_put.iter().map(|row| row.id));
            wanted.blobs.extend(txn.blobs.iter().map(|blob| blob.digest));
        }
        wanted
    }

    fn guard(&mut self, guard: &'g Guard) {
        match guard {
            Guard::ResourceAt { number, .. } | Guard::ResourceExists(number) => {
                self.numbers.insert(*number);
            }
            Guard::ResourceAbsent(key) => {
                self.keys.insert(key);
            }
            Guard::JournalNext { n, .. } => {
                self.journals.insert(*n);
            }
            Guard::TimerExists(timer) => {
                self.timers.insert(*timer);
            }
            Guard::MailboxUnanswered(id) => {
                self.mailboxes.insert(*id);
            }
            Guard::OutboxExists(id) => {
                self.outbox.insert(*id);
            }
        }
    }

    /// Asks for everything at once. The questions are sent before the first answer is waited for, and after whatever was
    /// sent on this connection before.
    pub(super) async fn read(&self, client: &Client, s: &Statements) -> Result<Facts, Error> {
        let numbers: Vec<i64> = self.numbers.iter().copied().collect();
        let mut keys: [Vec<&str>; 3] = Default::default();
        for key in &self.keys {
            for (column, value) in keys.iter_mut().zip([key.kind.as_ref(), &key.namespace, &key.name]) {
                column.push(value);
            }
        }
        let journals: Vec<i64> = self.journals.iter().copied().collect();
        let mut timers: [Vec<i64>; 3] = Default::default();
        for timer in &self.timers {
            for (column, value) in timers.iter_mut().zip([timer.due_ms, timer.n, timer.id]) {
                column.push(value);
            }
        }
        let mailboxes: Vec<&[u8]> = self.mailboxes.iter().map(<[u8; 16]>::as_slice).collect();
        let outbox: Vec<i64> = self.outbox.iter().copied().collect();
        let uids: Vec<&[u8]> = self.uids.iter().map(<[u8; 16]>::as_slice).collect();
        let blobs: Vec<&[u8]> = self.blobs.iter().map(<[u8; 32]>::as_slice).collect();
        let ([kinds, namespaces, names], [dues, ns, ids]) = (&keys, &timers);
        macro_rules! ask {
            ($statement:ident, $first:ident $(, $other:ident)*) => {
                async {
                    if $first.is_empty() {
                        return Ok(Vec::new());
                    }
                    client.query(&s.$statement, &[&$first $(, &$other)*]).await
                }
            };
        }
        let found = futures::join!(
            ask!(by_number, numbers),
            ask!(by_name, kinds, namespaces, names),
            ask!(journal_last, journals),
            ask!(timers, dues, ns, ids),
            ask!(mailboxes, mailboxes),
            ask!(outbox, outbox),
            ask!(blobs, blobs),
            ask!(uids, uids),
        );
        let mut facts = Facts::default();
        for row in found.0?.iter().chain(&found.1?) {
            facts.add_resource(row)?;
        }
        for row in found.2? {
            facts.journal_last.insert(row.try_get(0)?, row.try_get(1)?);
        }
        for row in found.3? {
            facts.timers.insert(TimerRow { due_ms: row.try_get(0)?, n: row.try_get(1)?, id: row.try_get(2)? });
        }
        for row in found.4? {
            if let Ok(id) = row.try_get::<_, &[u8]>(0)?.try_into() {
                facts.mailboxes.insert(id, row.try_get(1)?);
            }
        }
        for row in found.5? {
            facts.outbox.insert(row.try_get(0)?);
        }
        for row in found.6? {
            facts.blobs.extend(<Digest>::try_from(row.try_get::<_, &[u8]>(0)?).ok());
        }
        for row in found.7? {
            facts.uids.extend(Uid::try_from(row.try_get::<_, &[u8]>(0)?).ok());
        }
        Ok(facts)
    }
}

impl Facts {
    fn add_resource(&mut self, row: &Row) -> Result<(), Error> {
        let number: Number = row.try_get(0)?;
        let kind: String = row.try_get(3)?;
        let key = ResourceKey { kind: kind.into(), namespace: row.try_get(4)?, name: row.try_get(5)? };
        // A damaged uid is nobody's.
        let uid = row.try_get::<_, &[u8]>(2)?.try_into().unwrap_or([0xff; 16]);
        let revision = row.try_get::<_, i64>(1)?.cast_unsigned();
        self.names.insert(key.clone(), number);
        self.resources.insert(number, Living { key, uid, revision });
        Ok(())
    }
}
