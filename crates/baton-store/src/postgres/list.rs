//! Pages of resources, with the revision of the snapshot that they show.

use tokio_postgres::Row;

use super::limit_of;
use super::pool::{Param, PostgresReads};
use super::reads::revision_of;
use super::rows::{self, RESOURCE_COLUMNS, RowError, collect};
use crate::error::StoreError;
use crate::model::{CorruptRow, ListPage, ListQuery, StoredResource, canonical_labels};

/// Names the columns of a row by their table's alias.
pub(super) fn aliased(alias: &str, columns: &str) -> String {
    columns.split(", ").map(|column| format!("{alias}.{column}")).collect::<Vec<_>>().join(", ")
}

/// The statement of a list, which gives the head's revision and the rows; one row of nothing if there are none.
fn list_sql(query: &ListQuery) -> (String, Vec<Param>) {
    let mut params: Vec<Param> = vec![Box::new(query.kind.clone().into_owned())];
    let mut conditions = "kind = $1".to_owned();
    let mut condition = |text: &str, values: Vec<String>| {
        let mut text = text.to_owned();
        for value in values {
            params.push(Box::new(value));
            text = text.replacen('?', &format!("${}", params.len()), 1);
        }
        conditions.push_str(" AND ");
        conditions.push_str(&text);
    };
    match (&query.namespace, &query.after) {
        (Some(namespace), after) => {
            condition("ns = ?", vec![namespace.clone()]);
            if let Some((after_namespace, after_name)) = after {
                // A position in an earlier namespace is before all of this one, in a later one after all of it.
                match after_namespace.cmp(namespace) {
                    std::cmp::Ordering::Equal => condition("name > ?", vec![after_name.clone()]),
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Greater => condition("false", Vec::new()),
                }
            }
        }
        (None, Some((namespace, name))) => condition("(ns, name) > (?, ?)", vec![namespace.clone(), name.clone()]),
        (None, None) => {}
    }
    for (key, value) in &query.labels {
        if let Some(text) = canonical_labels([(key.as_str(), value.as_str())]) {
            condition("strpos(labels, ?) > 0", vec![text]);
        }
    }
    params.push(Box::new(limit_of(query.limit.saturating_add(1))));
    let sql = format!(
        "SELECT h.revision, {} FROM head h LEFT JOIN LATERAL (SELECT {RESOURCE_COLUMNS} FROM resource \
         WHERE {conditions} ORDER BY ns, name LIMIT ${}) r ON true ORDER BY r.ns, r.name",
        aliased("r", RESOURCE_COLUMNS),
        params.len()
    );
    (sql, params)
}

/// A row of a list with its place, which is needed also when the row is damaged.
struct Listed {
    place: (String, String),
    row: Result<StoredResource, CorruptRow>,
}

/// `None` for the row of nothing.
fn listed(row: &Row) -> Result<Option<Listed>, RowError> {
    if row.try_get::<_, Option<i64>>(1)?.is_none() {
        return Ok(None);
    }
    let place = (row.try_get(3)?, row.try_get(4)?);
    match rows::resource(row, 1) {
        Ok(resource) => Ok(Some(Listed { place, row: Ok(resource) })),
        Err(RowError::Corrupt(corrupt)) => Ok(Some(Listed { place, row: Err(corrupt) })),
        Err(error) => Err(error),
    }
}

/// A page in order of namespace and name.
pub(super) fn list(reads: &PostgresReads, query: &ListQuery) -> Result<ListPage, StoreError> {
    const OPERATION: &str = "list resources";
    let (sql, params) = list_sql(query);
    let found = reads.query(OPERATION, sql, params)?;
    let revision = revision_of(&found, OPERATION, 0)?;
    let mut rows: Vec<Listed> = collect(OPERATION, &found, listed)?.items.into_iter().flatten().collect();
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
