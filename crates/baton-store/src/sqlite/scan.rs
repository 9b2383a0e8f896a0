//! Reads that need a snapshot of their own: lists and change scans.

use rusqlite::{Connection, Row};

use super::pool::collect;
use super::rows::{self, RESOURCE_COLUMNS, RowError};
use super::{doing, limit_of, writer};
use crate::backend::ChangePage;
use crate::error::StoreError;
use crate::model::{CorruptRow, ListPage, ListQuery, StoredResource, canonical_labels};

/// Revisions that one scan of the change table looks at: bounds the work when few are of the wanted kind.
const CHANGE_SCAN_MAX: u64 = 5_000;

/// The statement of a list, and the text that its labels must contain.
fn list_sql(query: &ListQuery) -> (String, Vec<Box<dyn rusqlite::ToSql>>) {
    let mut sql = format!("SELECT {RESOURCE_COLUMNS} FROM resource WHERE kind = ?");
    let mut params: Vec<Box<dyn rusqlite::ToSql>> = vec![Box::new(query.kind.clone().into_owned())];
    match (&query.namespace, &query.after) {
        (Some(namespace), after) => {
            sql.push_str(" AND ns = ?");
            params.push(Box::new(namespace.clone()));
            if let Some((after_namespace, after_name)) = after {
                // A position in an earlier namespace is before all of this one, in a later one after all of it.
                let name = match after_namespace.cmp(namespace) {
                    std::cmp::Ordering::Equal => Some(after_name.clone()),
                    std::cmp::Ordering::Less => None,
                    std::cmp::Ordering::Greater => {
                        sql.push_str(" AND 0");
                        None
                    }
                };
                if let Some(name) = name {
                    sql.push_str(" AND name > ?");
                    params.push(Box::new(name));
                }
            }
        }
        (None, Some((namespace, name))) => {
            sql.push_str(" AND (ns, name) > (?, ?)");
            params.push(Box::new(namespace.clone()));
            params.push(Box::new(name.clone()));
        }
        (None, None) => {}
    }
    for (key, value) in &query.labels {
        if let Some(text) = canonical_labels([(key.as_str(), value.as_str())]) {
            sql.push_str(" AND instr(labels, ?) > 0");
            params.push(Box::new(text));
        }
    }
    sql.push_str(" ORDER BY ns, name LIMIT ?");
    params.push(Box::new(limit_of(query.limit.saturating_add(1))));
    (sql, params)
}

/// A row of a list with its place, which is needed also when the row is damaged.
struct Listed {
    place: (String, String),
    row: Result<StoredResource, CorruptRow>,
}

fn listed(row: &Row<'_>) -> Result<Listed, RowError> {
    let text = |index| -> rusqlite::Result<String> {
        Ok(row.get_ref(index)?.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default())
    };
    let place = (text(2)?, text(3)?);
    match rows::resource(row) {
        Ok(resource) => Ok(Listed { place, row: Ok(resource) }),
        Err(RowError::Corrupt(corrupt)) => Ok(Listed { place, row: Err(corrupt) }),
        Err(error) => Err(error),
    }
}

/// A page of resources, and the revision of the snapshot it was read in.
pub(super) fn list(connection: &Connection, query: &ListQuery) -> Result<ListPage, StoreError> {
    const OPERATION: &str = "list resources";
    // One transaction, so that the revision is that of the rows.
    let snapshot = connection.unchecked_transaction().map_err(doing(OPERATION))?;
    let revision = writer::read_head(&snapshot).map_err(doing(OPERATION))?.revision;
    let (sql, params) = list_sql(query);
    let params = rusqlite::params_from_iter(params);
    let mut rows = collect(&snapshot, OPERATION, &sql, params, &listed)?.items;
    let more = rows.len() > query.limit;
    rows.truncate(query.limit);
    let last = rows.last().map(|listed| listed.place.clone());
    let mut page = ListPage { items: Vec::with_capacity(rows.len()), corrupt: Vec::new(), revision, more, last };
    for listed in rows {
        match listed.row {
            Ok(resource) => page.items.push(resource),
            Err(corrupt) => page.corrupt.push(corrupt),
        }
    }
    Ok(page)
}

/// Changes after a revision; `None` if some of them may be compacted.
pub(super) fn changes(
    connection: &Connection,
    kind: Option<&str>,
    after: u64,
    limit: usize,
) -> Result<Option<ChangePage>, StoreError> {
    const OPERATION: &str = "read changes";
    let snapshot = connection.unchecked_transaction().map_err(doing(OPERATION))?;
    let head = writer::read_head(&snapshot).map_err(doing(OPERATION))?;
    if after < head.compacted {
        return Ok(None);
    }
    let until = after.saturating_add(CHANGE_SCAN_MAX).min(head.revision);
    let sql = format!(
        "SELECT {} FROM change WHERE revision > ?1 AND revision <= ?2 AND (?3 IS NULL OR kind = ?3) \
         ORDER BY revision LIMIT ?4",
        rows::CHANGE_COLUMNS
    );
    let params = (after.cast_signed(), until.cast_signed(), kind, limit_of(limit));
    let found = collect(&snapshot, OPERATION, &sql, params, &rows::change)?;
    if let Some(corrupt) = found.corrupt.into_iter().next() {
        // A watcher must not miss a change without knowing.
        return Err(StoreError::Corrupt { table: corrupt.table, key: corrupt.key });
    }
    let changes = found.items;
    let scanned_to = match changes.last() {
        Some(last) if changes.len() >= limit => last.revision,
        _ => until,
    };
    Ok(Some(ChangePage { changes, scanned_to }))
}
