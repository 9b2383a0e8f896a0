//! Settings of a store. The defaults suit a server; each number has its reason beside it. Those about disk, cache and
//! checkpoints are for a store in files; a database server has its own.

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Page cache of the committer and, divided, of the readers.
    pub cache_bytes: usize,
    /// Transactions in one group at most. Beyond about a thousand a sync is already amortised and only latency grows.
    pub group_operations_max: usize,
    /// Bytes in one group at most: a larger group stalls everyone behind it.
    pub group_bytes_max: usize,
    /// Transactions waiting at most. The external lane may fill three quarters, the internal lane twice this.
    pub queue_operations_max: usize,
    /// Bytes waiting at most, divided between the lanes in the same way.
    pub queue_bytes_max: usize,
    /// Reading connections, 1 to 16.
    pub readers: usize,
    /// Below this much free disk the external lane is refused; 0 disables the check and the ballast file.
    pub free_bytes_min: u64,
    /// Size of the file that is released when the disk is full, so that deletes can commit; 0 for none.
    pub ballast_bytes: u64,
    /// Upper bound of the database file; `None` for what the disk holds. Reaching it is a full disk.
    pub database_bytes_max: Option<u64>,
    /// Size of the write-ahead log that starts a checkpoint.
    pub checkpoint_bytes: u64,
    /// Open in spite of a network file system.
    pub allow_network_filesystem: bool,
    /// Events kept in memory for each kind.
    pub ring_events_max: usize,
    /// Bytes of event bodies kept in memory for each kind.
    pub ring_bytes_max: usize,
    /// A single read is interrupted after this long.
    pub read_budget_ms: u64,
    /// How long commits wait for a database server that does not answer, before they are refused.
    pub outage_patience_ms: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            group_operations_max: 1024,
            group_bytes_max: 4 << 20,
            queue_operations_max: 4096,
            queue_bytes_max: 64 << 20,
            readers: 3,
            free_bytes_min: 512 << 20,
            ballast_bytes: 64 << 20,
            database_bytes_max: None,
            checkpoint_bytes: 16 << 20,
            allow_network_filesystem: false,
            ring_events_max: 10_000,
            ring_bytes_max: 64 << 20,
            read_budget_ms: 5_000,
            outage_patience_ms: 30_000,
        }
    }
}
